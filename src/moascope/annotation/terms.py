"""The versioned table of words, and where its names stand in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from moascope.screen.terms import GREEK, stem

_WORD = re.compile("|".join([*GREEK, r"[^\W\d_α-ωµ]+", r"\d+"]))


@dataclass(frozen=True)
class Words:
    """A text as words that can be compared.

    Attributes
    ----------
    text : str
        As it was written.
    words : tuple of str
        Lower case, Greek letters spelt, plurals cut, letters parted from digits.
    spans : tuple of (int, int)
        Where each word stands in `text`.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def quote(self, start: int, stop: int) -> str:
        """The text of the words from `start` up to, without, `stop`."""
        return self.text[self.spans[start][0]:self.spans[stop - 1][1]]


@dataclass(frozen=True)
class Name:
    """A name in the table: what it says and how sure it is.

    Attributes
    ----------
    family : str
    says : {"yes", "no", "unclear", "use"}
        Whether receptors of this family are GPCRs.
    kind : {"names", "ligands", "codes"}
        Whether the name alone is the receptor, or the words around it decide.
    about : str
        For "no" what the family is instead, for "unclear" and "use" the question.
    implied : str
        The action that the name itself states ("sartan": antagonist), or "".
    """

    family: str
    says: str
    kind: str
    about: str = ""
    implied: str = ""


@dataclass(frozen=True)
class Match:
    """A name found in a text: words `start` up to, without, `stop`."""

    start: int
    stop: int
    name: Name


@dataclass(frozen=True)
class TermTable:
    """The table, ready to be matched.

    Attributes
    ----------
    version : int
    contexts : dict of str to str
        Word of the text around a name -> what it says of it: receptor, agonist, elsewhere, ...
    stems, endings : tuple of (str, str)
        The same for words that are given by their beginning or their end.
    unless : dict of str to frozenset of str
        Family -> families that decide in its place where they stand in the same term.
    patterns : dict
        First word -> what a name may look like from there on, and the name; "" for names whose
        first word is a pattern itself.
    """

    version: int
    contexts: Mapping[str, str]
    stems: tuple[tuple[str, str], ...]
    endings: tuple[tuple[str, str], ...]
    unless: Mapping[str, frozenset[str]]
    patterns: Mapping[str, tuple[tuple[re.Pattern[str], int, Name], ...]]

    def context(self, word: str) -> str:
        """What a word says of the name beside it; "" where it says nothing."""
        if word in self.contexts:
            return self.contexts[word]
        return next((kind for stem, kind in self.stems if word.startswith(stem)),
                    next((kind for ending, kind in self.endings if word.endswith(ending)), ""))

    def find(self, words: tuple[str, ...]) -> list[Match]:
        """All names in a text; where two overlap, the longer and then the more literal one."""
        line = " " + " ".join(words) + " "
        starts, at = {}, 0
        for index, word in enumerate(words):
            starts[at] = index
            at += 1 + len(word)
        starts[at] = len(words)
        found = []
        for at, index in starts.items():
            if index == len(words):
                continue
            for pattern, literal, name in (*self.patterns.get(words[index], ()),
                                           *self.patterns.get("", ())):
                match = pattern.match(line, at)
                if match:
                    stop = starts[match.end()]
                    found.append((stop - index, literal, Match(index, stop, name)))
        found.sort(key=lambda item: (-item[0], -item[1], item[2].start))
        kept: list[Match] = []
        for _, _, match in found:
            if all(match.stop <= other.start or other.stop <= match.start
                   or ((match.start, match.stop, match.name.family)
                       == (other.start, other.stop, other.name.family)) for other in kept):
                kept.append(match)
        return sorted(kept, key=lambda match: (match.start, match.stop))


def split_words(text: str) -> Words:
    """Cut a text into comparable words; see the head of terms.yaml."""
    # Superscripts and full-width letters become plain ones, one character for one.
    plain = "".join(_plain(character) for character in text)
    words, spans = [], []
    for match in _WORD.finditer(plain):
        words.append(stem(GREEK.get(match[0], match[0])))
        spans.append(match.span())
    return Words(text, tuple(words), tuple(spans))


def _plain(character: str) -> str:
    if character in GREEK:
        return character
    wide = unicodedata.normalize("NFKD", character.lower())
    return wide[0] if wide and wide[0].isascii() else character.lower()[0]


@cache
def load_terms() -> TermTable:
    """Read the table that comes with moascope, terms.yaml."""
    text = files("moascope.annotation").joinpath("terms.yaml").read_text(encoding="utf-8")
    return parse_terms(yaml.safe_load(text))


def parse_terms(table: Mapping[str, Any]) -> TermTable:
    """Make a table ready to be matched.

    Parameters
    ----------
    table : mapping
        As terms.yaml holds it.

    Raises
    ------
    ValueError
        Where a name is in two families, or `unless` names a family that does not exist.
    """
    patterns: dict[str, list[tuple[re.Pattern[str], int, Name]]] = {}
    owners: dict[str, str] = {}

    def add(names: str, name: Name) -> None:
        for text in _listed(names):
            pattern, first, literal = _compile(text)
            owner = owners.setdefault(pattern.pattern, name.family)
            if owner != name.family:
                raise ValueError(f"terms.yaml: '{text}' is in '{owner}' and in '{name.family}'")
            patterns.setdefault(first, []).append((pattern, literal, name))

    for section, says in (("gpcr", "yes"), ("not_gpcr", "no"), ("unclear", "unclear")):
        for entry in table[section]:
            about = entry.get("kind", entry.get("question", ""))
            for action, names in entry.get("implied", {}).items():
                add(names, Name(entry["family"], says, "names", about, action))
            for kind in ("names", "ligands", "codes"):
                add(entry.get(kind, ""), Name(entry["family"], says, kind, about))
    uses = table["uses"]
    add(uses["names"], Name("uses", "use", "names", uses["question"]))
    add(table["unstated"], Name("unstated", "use", "names",
                                "The text itself says that the mechanism is unknown. "
                                "How does it act?"))
    add(table["inactive"], Name("inactive", "inactive", "names", "an inactive compound"))

    unless = {entry["family"]: frozenset(entry["unless"])
              for section in ("gpcr", "unclear") for entry in table[section] if "unless" in entry}
    families = {name.family for rows in patterns.values() for _, _, name in rows}
    lost = sorted(set().union(*unless.values()) - families)
    if lost:
        raise ValueError(f"terms.yaml: 'unless' names {', '.join(lost)}, which is not a family")
    contexts, stems, endings = {}, [], []
    for kind, words in table["words"].items():
        for word in _listed(words):
            if word.endswith("*"):
                stems.append((word[:-1], kind))
            elif word.startswith("*"):
                endings.append((word[1:], kind))
            else:
                # A word that is glue and says something, such as "inverse", says it.
                contexts.setdefault(stem(word), kind)
    return TermTable(table["version"], contexts, tuple(stems), tuple(endings), unless,
                     {first: tuple(rows) for first, rows in patterns.items()})


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _compile(text: str) -> tuple[re.Pattern[str], str, int]:
    """A name as a pattern, its first word if that is literal, and how many words are."""
    parts, first, literal = [], None, 0
    for token in text.split():
        if token in ("#", "#?"):
            part = r" \d+(?: [a-z](?= ))?"
            parts.append(f"(?:{part})?" if token == "#?" else part)
        elif token == "~":
            parts.append(r"(?: [a-z](?= ))?")
        elif token.startswith("["):
            parts.append(f" {token}(?= )")
        elif token.endswith("*"):
            parts.append(f" {re.escape(token[:-1])}[a-z]*")
        else:
            for word in split_words(token).words:
                parts.append(f" {re.escape(word)}")
                first = word if first is None and len(parts) == 1 else first
                literal += 1
    return re.compile("".join(parts) + "(?= )"), first or "", literal
