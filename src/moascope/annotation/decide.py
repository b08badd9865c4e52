"""From the words of a mechanism: does it involve a GPCR, how, and by which evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from moascope.annotation.terms import Match, TermTable, Words, load_terms, split_words
from moascope.screen.terms import split_terms

BY_GENES = "(by target genes)"
"""In place of a family where target genes, not words, made the "yes"."""

_ACTS = ("agonist", "antagonist", "inhibitor", "other", "allosteric", "inverse")
_SHOWS_A_RECEPTOR = ("receptor", "agonist", "antagonist", "other", "allosteric", "inverse")


@dataclass(frozen=True)
class Reading:
    """What one term says.

    Attributes
    ----------
    term : str
    says : {"yes", "no", "unclear", "use"}
        "use": the term states what a compound is for, or that nothing is known.
    families : tuple of str
        Receptor families of a "yes".
    actions : tuple of str
        Of "agonist", "antagonist", "other"; sorted. Also those of an "unclear" term, because
        target genes may make a "yes" of it.
    why : str
        The words that decided; for "unclear" and "use" the question to a person follows.
    question : str
    """

    term: str
    says: str
    families: tuple[str, ...]
    actions: tuple[str, ...]
    why: str
    question: str = ""


@dataclass(frozen=True)
class Decision:
    """What a compound is.

    Attributes
    ----------
    gpcr : {"yes", "no", "unknown"}
    action : str
        Of "agonist", "antagonist", "other", sorted and joined by "|"; "" where none is stated.
    evidence : str
        The version of the term table, and for each term what it says by which words.
    question : str
        What a person should look at; "" where there is nothing to ask.
    families : tuple of (str, str)
        Receptor families that the words name, each with its own action; `BY_GENES` where target
        genes made the "yes".
    asked : tuple of str
        The terms that the question is about; empty where there is nothing to ask.
    """

    gpcr: str
    action: str
    evidence: str
    question: str
    families: tuple[tuple[str, str], ...]
    asked: tuple[str, ...] = ()


def decide(moa: str, symbols: Collection[str] = (),
           gpcr_genes: Collection[str] = frozenset(), genes_name: str = "") -> Decision:
    """Decide for one compound: the words first, its target genes second.

    Parameters
    ----------
    moa : str
        Terms, separated as `moascope.screen.terms.split_terms` separates them; empty where nothing
        is known.
    symbols : collection of str
        Gene symbols of the compound's targets, upper case; empty where they are not known.
    gpcr_genes : collection of str
        Gene symbols of all GPCRs, upper case.
    genes_name : str
        What the table of GPCR genes is called in the evidence.

    Notes
    -----
    One term that names a GPCR makes a "yes". Otherwise one term that words cannot decide makes an
    "unknown", unless the genes decide it. Genes never overrule words: where they disagree, the
    words stand and a person is asked, because target lists contain off-targets, and because drugs
    with the same mechanism have lists of different lengths.
    """
    table = load_terms()
    readings = [read_term(term) for term in split_terms(moa)]
    decisive = [reading for reading in readings if reading.says != "use"] or readings
    said = {reading.says for reading in decisive}
    evidence = [f"terms {table.version}: "
                + ("; ".join(reading.why for reading in readings) or "no MoA is given")]
    acted: dict[str, set[str]] = {}
    for reading in readings:
        for family in reading.families:
            acted.setdefault(family, set()).update(reading.actions)
    families = tuple((family, "|".join(sorted(acted[family]))) for family in sorted(acted))
    hits = sorted(set(symbols) & set(gpcr_genes))
    by_genes = bool(symbols) and bool(gpcr_genes)
    question, asked = "", readings
    deciding = [reading for reading in readings if reading.says == "yes"]
    if "yes" in said:
        gpcr = "yes"
    elif said == {"no"}:
        gpcr = "no"
    else:
        deciding = [reading for reading in decisive if reading.says in ("unclear", "use")]
        asked = deciding
        question = " ".join(dict.fromkeys(
            f"{reading.term}: {reading.question}" for reading in deciding))
        gpcr = "unknown"
    if by_genes:
        shown = ", ".join((hits or sorted(symbols))[:8])
        evidence.append(f"genes: {shown} {'is' if len(hits or symbols) == 1 else 'are'} "
                        f"{'' if hits else 'not '}in {genes_name}")
        if gpcr == "unknown":
            gpcr, question = ("yes" if hits else "no"), ""
        elif gpcr == "yes" and not hits:
            question = (f"The words name a GPCR ({', '.join(acted)}), but none of the target "
                        f"genes is one ({shown}). Which is right?")
        elif gpcr == "no" and hits:
            question = (f"The words name no GPCR, but target genes are GPCRs ({shown}). Are they "
                        "part of the mechanism?")
    action = "|".join(sorted({action for reading in deciding for action in reading.actions}))
    about = tuple(reading.term for reading in asked) if question else ()
    if gpcr != "yes":
        return Decision(gpcr, "", ". ".join(evidence), question, (), about)
    return Decision(gpcr, action, ". ".join(evidence), question,
                    families or ((BY_GENES, action),), about)


@cache
def read_term(term: str) -> Reading:
    """Read one term of a mechanism, such as "serotonin receptor antagonist"."""
    table = load_terms()
    words = split_words(term)
    found = table.find(words.words)
    if any(match.name.says == "inactive" for match in found):
        return Reading(term, "no", (), (), f'"{term}" is an inactive compound')
    matches = [match for match in found if match.name.kind != "codes"
               or _code_is_a_receptor(match, found, words, table)]
    families = {match.name.family for match in matches}
    matches = [match for match in matches
               if (match.name.says == "yes" and match.name.kind != "ligands")
               or not table.unless.get(match.name.family, frozenset()) & families]

    verdicts = [(match, *_verdict(match, matches, words, table)) for match in matches]
    for wanted in ("yes", "unclear", "no", "use"):
        chosen = [(match, why, question) for match, says, why, question in verdicts
                  if says == wanted]
        if chosen:
            # Names of one family in one term, such as histamine and H1, say the same.
            of_family = {match.name.family: (why, question) for match, why, question in
                         reversed(chosen)}
            why = " and ".join(why for why, _ in reversed(of_family.values()))
            asked = " ".join(dict.fromkeys(question for _, question in
                                           reversed(of_family.values()) if question))
            actions = {action for match, _, _ in chosen
                       for action in _actions(match, matches, words, table)}
            return Reading(term, wanted, tuple(sorted(of_family)) if wanted == "yes" else (),
                           tuple(sorted(actions)) if wanted in ("yes", "unclear") else (),
                           f'"{term}": {why}', asked)
    contexts = [table.context(word) for word in words.words]
    # An antagonist of an enzyme, a channel or a carrier that the table lacks has no receptor.
    acts = "agoni" if "elsewhere" in contexts else ("agoni", "antagoni")
    if "receptor" in contexts or any(word.startswith(acts) for word in words.words):
        return Reading(term, "unclear", (), _unmatched_actions(words, table),
                       f'"{term}": no family of the table is named',
                       "The term table does not list this receptor. Is it a GPCR?")
    return Reading(term, "no", (), (), f'no GPCR term in "{term}"')


def _code_is_a_receptor(code: Match, found: Sequence[Match], words: Words,
                        table: TermTable) -> bool:
    """Whether H1, beta or EP4 stands where a receptor would.

    Only glue or other receptors may come before it, and a word such as agonist must come after
    it: "phospholipase A2 inhibitor" and "estrogen receptor beta agonist" are not.
    """
    covered = {index: match for match in found for index in range(match.start, match.stop)}
    before = code.start - 1
    while before >= 0:
        match = covered.get(before)
        if match is not None and match.name.says == "yes":
            before = match.start - 1
        elif match is None and table.context(words.words[before]) in ("glue", "inverse",
                                                                      "allosteric"):
            before -= 1
        else:
            return False
    after = code.stop
    while after < len(words.words):
        match = covered.get(after)
        said = table.context(words.words[after])
        if match is not None and match.name.says == "yes":
            after = match.stop
        elif match is None and said == "glue":
            after += 1
        else:
            return match is None and said in _SHOWS_A_RECEPTOR
    return False


def _verdict(match: Match, matches: Sequence[Match], words: Words,
             table: TermTable) -> tuple[str, str, str]:
    """What a name says where it stands: its class, the words of evidence, and a question."""
    name = match.name
    quoted = f'"{words.quote(match.start, match.stop)}"'
    question = name.about if name.says in ("unclear", "use") else ""
    if name.says == "no":
        return "no", f"{name.family} ({name.about}, no GPCRs) by {quoted}", ""
    if name.says == "use":
        return "use", f"a use or an unknown by {quoted}", question
    ends_in_receptor = table.context(words.words[match.stop - 1]) == "receptor"
    if name.kind == "names" and (ends_in_receptor or name.implied):
        said, by = "receptor", ""
    else:
        said, by = _context(match, matches, words, table)
    kind = "GPCRs" if name.says == "yes" else "not all of them GPCRs"
    here = f"{name.family} ({kind}) by {quoted}" + (f' with "{by}"' if by else "")
    if said == "elsewhere":
        return "no", f'{quoted} with "{by}" is no receptor', ""
    if name.kind == "ligands" and said not in _SHOWS_A_RECEPTOR:
        return ("unclear", here,
                question or f"Is the receptor meant, or what makes, breaks or carries {quoted}?")
    return name.says, here, question


def _context(match: Match, matches: Sequence[Match], words: Words,
             table: TermTable) -> tuple[str, str]:
    """The first word after a name, or else before it, that says what of it is meant."""
    covered = {index for other in matches if other is not match
               for index in range(other.start, other.stop)}
    own = set(range(match.start, match.stop))
    for span in (range(match.stop, len(words.words)), range(match.start - 1, -1, -1)):
        for index in span:
            if index in own:
                continue
            if index in covered:
                # A list such as "serotonin and dopamine receptor antagonist" shares its end, but
                # what follows a receptor's own name is not said of it.
                if match.name.kind == "ligands":
                    continue
                break
            said = table.context(words.words[index])
            if said and said != "glue":
                return said, words.quote(index, index + 1)
    return "", ""


def _actions(match: Match, matches: Sequence[Match], words: Words, table: TermTable) -> set[str]:
    """agonist, antagonist or other, from the words around a receptor."""
    starts = {other.start: other.stop for other in matches}
    stops = {other.stop - 1: other.start for other in matches}
    found: list[tuple[str, str]] = []
    index = match.stop
    while index < len(words.words):
        if index in starts and starts[index] > index:
            if found:
                break
            index = starts[index]
            continue
        if found and set(",;") & set(words.text[words.spans[index - 1][1]:words.spans[index][0]]):
            break
        said = table.context(words.words[index])
        if said in _ACTS:
            found.append((said, words.words[index]))
        index += 1
    # "inverse", "partial" and "positive allosteric" may stand before the receptor, and so may all:
    # "agonist of the opioid receptor".
    index = match.start - 1
    while index >= 0:
        if index in stops:
            break
        said = table.context(words.words[index])
        if said in ("inverse", "allosteric") or (said in _ACTS and not found):
            found.insert(0, (said, words.words[index]))
        index -= 1
    return _name_actions(found, match.name.implied)


def _unmatched_actions(words: Words, table: TermTable) -> tuple[str, ...]:
    found = [(table.context(word), word) for word in words.words if table.context(word) in _ACTS]
    return tuple(sorted(_name_actions(found, "")))


def _name_actions(found: Sequence[tuple[str, str]], implied: str) -> set[str]:
    kinds = [kind for kind, _ in found]
    if "allosteric" in kinds or any(word.startswith(("stabili", "pam", "nam"))
                                    for _, word in found):
        return {"other"}
    actions = set()
    for index, kind in enumerate(kinds):
        if kind == "agonist":
            # An inverse agonist lowers what the receptor does, as an antagonist in a cell that is
            # stimulated does.
            inverse = "inverse" in kinds[:index]
            actions.add("antagonist" if inverse else "agonist")
        elif kind == "antagonist":
            actions.add("antagonist")
    if not actions and implied:
        return {implied}
    if not actions and "inhibitor" in kinds:
        actions.add("antagonist")
    if not actions and "other" in kinds:
        actions.add("other")
    return actions
