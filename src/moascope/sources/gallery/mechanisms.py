"""Mechanisms of compounds from tables that the user names, joined by structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import plain
from moascope.screen.compounds import name_key, structure
from moascope.sources.gallery.tables import kept, read_text
from moascope.text import counted, listing

SETTING = "gallery.mechanisms"
_MOA = ("moa", "compoundmoa", "mechanismofaction", "mechanism")
_KEY = ("inchikey", "compoundinchikey", "inchikey14")
_NAME = ("pertiname", "compoundname", "name", "compound")


class Known(NamedTuple):
    """What is known of a structure: mechanisms, separated by |, and the compound's name."""

    moa: str
    name: str


def read_mechanisms(named: Sequence[str],
                    downloads: Path) -> tuple[dict[str, Known], list[Path], list[str]]:
    """Read mechanisms by the first block of the InChIKey, which salts and stereoisomers share.

    Parameters
    ----------
    named : sequence of str
        Paths or addresses: a table with a column for the mechanism (moa) and one for the InChIKey;
        or, as at the Drug Repurposing Hub, one of drugs with pert_iname and moa, and one of
        samples with pert_iname and InChIKey.
    downloads : Path

    Returns
    -------
    tuple
        By block, what is known; the tables on disk; a sentence about each choice.

    Raises
    ------
    MoascopeError
        Where the tables do not lead from a structure to a mechanism.
    """
    paths = [kept(one, downloads, SETTING) for one in named]
    by_block: dict[str, list[tuple[str, str]]] = {}
    moa_of: dict[str, str] = {}
    block_of: list[tuple[str, str]] = []
    for path in paths:
        table = read_text(path, (), SETTING)
        moa, key, name = (_column(table, known) for known in (_MOA, _KEY, _NAME))
        names = table[name] if name else pd.Series("", index=table.index)
        if moa and key:
            for block, term, called in zip(table[key].map(structure), table[moa], names,
                                           strict=True):
                by_block.setdefault(block, []).append((term, called))
        elif moa and name:
            moa_of.update({name_key(called): term for called, term in
                           zip(names, table[moa], strict=True) if called})
        elif key and name:
            block_of += [(structure(one), called) for one, called in
                         zip(table[key], names, strict=True)]
        else:
            raise MoascopeError(f"{path} ({SETTING}) has no column for the mechanism (moa) with "
                                "one for the InChIKey or the name (pert_iname). Its columns are "
                                f"{listing(table.columns, 12)}.")
    for block, called in block_of:
        by_block.setdefault(block, []).append((moa_of.get(name_key(called), ""), called))
    by_block.pop("", None)
    if paths and not by_block:
        raise MoascopeError(f"{SETTING} names {listing(path.name for path in paths)}, without an "
                            "InChIKey. Name the Hub's table of samples beside that of drugs.")
    known = {block: Known(_joined(term for term, _ in said),
                          next((called for _, called in said if called), ""))
             for block, said in by_block.items()}
    several = sum(len({term for term, _ in said if term}) > 1 for said in by_block.values())
    notes = [f"{counted(several, 'structure')} of {listing(path.name for path in paths)} with "
             "several entries: all of their mechanisms are read."] if several else []
    return known, paths, notes


def _joined(cells: Iterable[str]) -> str:
    terms = [term.strip() for cell in cells for term in cell.split("|")]
    return "|".join(dict.fromkeys(filter(None, terms)))


def _column(table: pd.DataFrame, known: Sequence[str]) -> str:
    names = {plain(column): column for column in reversed(list(table.columns))}
    return next((names[one] for one in known if one in names), "")
