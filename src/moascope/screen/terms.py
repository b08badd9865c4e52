"""Mechanisms, however people write them: the one place that splits and compares them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from moascope.screen.lookalikes import latin
from moascope.text import counted, listing, tidy

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "ω": "omega",
}
_BRITISH = [("oestr", "estr"), ("tumour", "tumor"), ("leucotri", "leukotri"), ("sulph", "sulf"),
            ("adrenoreceptor", "adrenoceptor")]
_IZE = re.compile(r"is(?=e[rd]|ation|ing)")
_BLANKS_AND_DASHES = re.compile(r"[\s_\-\u2010-\u2015\u2212]+")
_NOTHING = frozenset({
    "", "na", "nan", "n/a", "none", "null", "nil", "nd", "n.d.", "tbd", "?", "??", "unknown",
    "unknownmoa", "unknownmechanism", "unknownmechanismofaction", "mechanismunknown",
    "mechanismofactionunknown", "moaunknown", "notknown", "notavailable", "notdetermined",
    "notannotated", "notapplicable", "nodata", "undetermined", "undefined", "unclear",
    "tobedetermined", "unannotated",
})

# Characters that may separate two mechanisms, from those that always do to those that seldom do.
_ALWAYS = re.compile(r"[|¦\n\r]+")
_SEMICOLON = re.compile(r"\s*;\s*")
# Not in 1,4,5-trisphosphate or 3',5'-cyclic.
_COMMA = re.compile(r"(?<![0-9'′])\s*,\s*|\s*,\s*(?![0-9])")
_SELDOM = re.compile(r"\s*/\s*|\s+[+&]\s+")
_WHOLE = re.compile(
    r"(?:ist|itor|ator|ucer|[sz]er|cker|ener|[ru]ptor|rader|lant|ssant|ncer|pler|nger|ander|lytic"
    r"|mimetic|toxin|poison|ligand|donor|substrate|analog(?:ue)?)s?$", re.IGNORECASE)
_NEEDS_MORE = re.compile(r"(?:receptor|channel|transporter|carrier|exchanger|pump)s?$",
                         re.IGNORECASE)
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")

_LONGEST_QUOTE = 60


class Terms(NamedTuple):
    """The mechanisms of a table in one spelling each.

    Attributes
    ----------
    cells : list of str
        Terms joined by "|", sorted as the cell has them; empty where nothing is known.
    warnings : list of str
        A sentence about spellings that were taken as one mechanism, about separators, and about
        words such as "unknown".
    """

    cells: list[str]
    warnings: list[str]


def stem(word: str) -> str:
    """A lower-case word without its plural and in American spelling."""
    for british, other in _BRITISH:
        word = word.replace(british, other)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word


def term_key(term: str) -> str:
    """What two spellings of one mechanism share.

    Case, Unicode composition, blanks, dashes, plurals, Greek letters, British spelling and letters
    of another alphabet that look Latin do not make another mechanism.
    """
    text = latin(unicodedata.normalize("NFKC", term)).casefold()
    text = "".join(GREEK.get(c, c) for c in text if unicodedata.category(c) != "Cf")
    words = (stem(word) for word in _BLANKS_AND_DASHES.sub(" ", text).strip(" .,;:'\"").split())
    return _IZE.sub("iz", "".join(words)).replace("analogue", "analog")


def split_terms(moa: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The single mechanisms of a cell, in its order and without repetition.

    `|` and line breaks always separate. A semicolon does, except in "GABA-A receptor; anion
    channel modulator", where the first part is not a mechanism. A comma, a slash, " + " or " & "
    separates two parts that are mechanisms by themselves ("HDAC inhibitor, tubulin inhibitor"),
    but not within a number or brackets.

    Parameters
    ----------
    moa : str
    known : iterable of str
        Keys (`term_key`) that count as mechanisms by themselves.

    Returns
    -------
    tuple of str
    """
    known = frozenset(known)
    found: dict[str, str] = {}
    for line in _ALWAYS.split(unicodedata.normalize("NFC", moa).replace("；", ";").replace(
            "，", ", ").replace("｜", "|")):
        for part in _split_where(line, _SEMICOLON,
                                 lambda left, right: not _NEEDS_MORE.search(left)):
            for piece in _split_where(part, _COMMA, lambda left, right: _is_whole(left, known)
                                      and _is_whole(_first_part(right), known)):
                for term in _split_where(piece, _SELDOM, lambda left, right: _stands_alone(
                        left, known) and _stands_alone(right, known)):
                    tidy = " ".join(term.split()).strip(" ,;")
                    if tidy:
                        found.setdefault(term_key(tidy), tidy)
    return tuple(found.values())


def moa_terms(moa: str) -> tuple[str, ...]:
    """The single mechanisms of an annotation, sorted and without repetition."""
    return tuple(sorted(split_terms(moa)))


def one_spelling(cells: Sequence[str], name: str = "annotations.csv") -> Terms:
    """Write each mechanism of a column in its most frequent spelling, separated by "|".

    Parameters
    ----------
    cells : sequence of str
        `Metadata_MoA` of each row.
    name : str
        The table in the sentences.

    Returns
    -------
    Terms
        Words that say that nothing is known ("unknown", "NA") are left out: unknown is no
        mechanism.
    """
    # A table repeats few cells over and over.
    distinct = Counter(cells)
    known: set[str] = set()
    while True:
        parts = {cell: split_terms(cell, known) for cell in distinct}
        # A whole cell with a comma does not prove that it is one mechanism.
        seen = {term_key(term) for cell, terms in parts.items() for term in terms
                if len(terms) > 1 or "," not in cell}
        if seen <= known:
            break
        known |= seen
    spellings: dict[str, Counter[str]] = {}
    silent: Counter[str] = Counter()
    for cell, terms in parts.items():
        for term in terms:
            if says_nothing(term):
                silent[term] += distinct[cell]
            else:
                spellings.setdefault(term_key(term), Counter())[term] += distinct[cell]
    chosen = {key: min(found, key=lambda term, found=found: (-found[term], term))
              for key, found in spellings.items()}
    written = {cell: "|".join(dict.fromkeys(chosen[term_key(term)] for term in terms
                                            if not says_nothing(term)))
               for cell, terms in parts.items()}
    return Terms([written[cell] for cell in cells],
                 _sentences(spellings, chosen, silent, parts, distinct, name))


def says_nothing(term: str) -> bool:
    """Whether a term says that the mechanism is not known."""
    text = unicodedata.normalize("NFKC", term).casefold()
    return _BLANKS_AND_DASHES.sub("", text) in _NOTHING


def names_within(term: str, wanted: str) -> bool:
    """Whether a mechanism holds another one as a part of it that a separator sets off.

    "kinase inhibitor / tubulin inhibitor" holds "tubulin inhibitor"; "non-tubulin inhibitor" does
    not. Nobody can say whether such a compound belongs to the mechanism.
    """
    parts = re.split(r"[,;/+&()\[\]:]|\s(?:and|or|plus|with)\s|\s-\s", term, flags=re.IGNORECASE)
    return len(parts) > 1 and term_key(wanted) in {term_key(part) for part in parts}


def _split_where(text: str, separator: re.Pattern[str],
                 apart: Callable[[str, str], bool]) -> list[str]:
    """Split at a separator outside brackets where `apart(left, right)` holds."""
    inside = [match.span() for match in _BRACKETS.finditer(text)]
    parts, start = [], 0
    for match in separator.finditer(text):
        if any(low < match.start() < high for low, high in inside):
            continue
        left, right = text[start:match.start()].strip(), text[match.end():].strip()
        if not left or not right or apart(left, right):
            parts.append(left)
            start = match.end()
    return [part for part in (*parts, text[start:]) if part.strip()]


def _first_part(text: str) -> str:
    """A text up to its next comma or semicolon outside brackets."""
    masked = _BRACKETS.sub(lambda match: "x" * len(match[0]), text)
    return text[:len(re.split(r"[,;]", masked)[0])]


def _is_whole(text: str, known: frozenset[str]) -> bool:
    """Whether a text is a mechanism by itself."""
    return bool(_WHOLE.search(_BRACKETS.sub("", text).strip())) or term_key(text) in known


def _stands_alone(text: str, known: frozenset[str]) -> bool:
    """As `_is_whole`, and more than the end of another: "agonist/antagonist" is one mechanism."""
    return term_key(text) in known or (len(text.split()) > 1 and _is_whole(text, known))


def _quoted(term: str) -> str:
    """A mechanism in quotes; free text is cut."""
    return f"'{tidy(term, _LONGEST_QUOTE)}'"


def _sentences(spellings: dict[str, Counter[str]], chosen: dict[str, str], silent: Counter[str],
               parts: dict[str, tuple[str, ...]], distinct: Counter[str],
               name: str) -> list[str]:
    sentences = []
    several = {key: found for key, found in sorted(spellings.items()) if len(found) > 1}
    if several:
        shown = listing((" = ".join(f"'{term}'" for term in sorted(found, key=lambda term: (
            term != chosen[key], term))) for key, found in several.items()), 3)
        sentences.append(f"{name} spells {counted(len(several), 'mechanism')} in several ways, "
                         f"read as one: {shown}.")
    split = [cell for cell, terms in parts.items()
             if len(terms) > 1 and len(terms) > len(_ALWAYS.split(cell.strip("|")))]
    if split:
        rows = sum(distinct[cell] for cell in split)
        sentences.append(f"{name} has {counted(rows, 'row')} whose mechanisms are not separated by "
                         f"'|'; {_quoted(split[0])} is read as "
                         f"{' and '.join(map(_quoted, parts[split[0]]))}."
                         " Write '|' between mechanisms to be sure.")
    whole = [term for found in spellings.values() for term in found if re.search("[,;]", term)
             and _COMMA.search(_BRACKETS.sub("", term))]
    if whole:
        sentences.append(f"{name} has {counted(len(whole), 'mechanism')} with a comma or semicolon "
                         f"inside, read as one each: {listing(map(_quoted, sorted(whole)), 3)}. "
                         "Write '|' where several are meant.")
    if silent:
        sentences.append(f"{name} has {counted(sum(silent.values()), 'row')} whose mechanism is "
                         f"{listing(map(repr, sorted(silent)), 3)}, read as not known.")
    return sentences
