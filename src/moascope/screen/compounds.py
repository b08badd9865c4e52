"""Which names and keys mean one compound: it is one unit however its name is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from moascope.screen.lookalikes import latin


def name_key(compound: str) -> str:
    """What all spellings of one compound's name share.

    Case, Unicode composition and compatibility (NFKC), blanks and the kind of dash do not make
    another compound, nor does a Cyrillic letter among Latin ones. A blank between two digits does:
    "7 12" is not 712.
    """
    text = latin(unicodedata.normalize("NFKC", compound))
    text = unicodedata.normalize("NFKC", text.casefold())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r"[\u2010-\u2015\u2212]", "-", text).strip()
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", re.sub(r"\s+", " ", text))


_WITH_DOSE = re.compile(r"(.*?[^\s_@,;:(\[-])[\s_@,;:(\[-]*?"
                        r"(?<![0-9.,])([0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*"
                        r"([pnuµμm]M|[pnuµμm]mol/[lL])[)\]]?", re.DOTALL)


def dose_in_name(compound: str) -> tuple[str, str, str] | None:
    """The name, number and unit in "aspirin 10 uM" or "aspirin_10uM"; None for other names."""
    match = _WITH_DOSE.fullmatch(compound.strip())
    return (match[1], match[2], match[3]) if match else None


def one_in_doses(compounds: Iterable[str]) -> list[list[str]]:
    """Names that differ in a dose alone, and so are one compound; at least two of each."""
    alike: dict[str, list[str]] = {}
    for compound in compounds:
        if parts := dose_in_name(compound):
            alike.setdefault(name_key(parts[0]), []).append(compound)
    return [names for names in alike.values() if len(names) > 1]


def compound_group(compound: str, inchikey: str = "") -> str:
    """Key shared by all forms of one compound.

    Salts and stereoisomers share the first block of the InChIKey (the hash of the connectivity);
    where there is no key, the name without case and surplus blanks stands in.
    """
    return structure(inchikey) or " ".join(latin(unicodedata.normalize("NFKC", compound))
                                           .casefold().split())


def structure(inchikey: str) -> str:
    """The first block of an InChIKey, empty where there is none."""
    block = inchikey.strip().upper().split("-")[0]
    return block if len(block) == 14 else ""


def compound_groups(names: Sequence[str], inchikeys: Sequence[str]) -> dict[str, str]:
    """The key of each compound of a table, the same for all names and forms of one compound.

    Parameters
    ----------
    names, inchikeys : sequence of str
        One per row; the InChIKey may be empty, also where another row of the compound has one.

    Returns
    -------
    dict of str to str
        By name: the first block of the InChIKey if any row of the compound has one, else the name
        as `compound_group` gives it.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for name, inchikey in zip(names, inchikeys, strict=True):
        node, block = root(("name", name_key(name))), structure(inchikey)
        if block:
            # Sorted, so that the key does not depend on the order of rows.
            first, second = sorted((node, root(("block", block))))
            parent[second] = first
    called: dict[tuple[str, str], str] = {}
    for name in sorted(set(names)):
        called.setdefault(root(("name", name_key(name))), compound_group(name))
    for inchikey in sorted(set(inchikeys), reverse=True):
        if block := structure(inchikey):
            called[root(("block", block))] = block
    return {name: called[root(("name", name_key(name)))] for name in names}
