"""The columns of a screen's tables, and what other people call them.

The names follow CellProfiler's LoadData and pycytominer: what describes a site, a well or a
compound starts with `Metadata_`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from moascope.screen.lookalikes import without_marks
from moascope.text import listing

SITE = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
WELL = ["Metadata_Plate", "Metadata_Well"]
LAYOUT = [*WELL, "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"]
ANNOTATIONS = ["Metadata_Compound", "Metadata_MoA"]
CONTROLS = ("negative", "positive", "")
GPCR = ("yes", "no", "unknown", "")
GPCR_ACTIONS = ("agonist", "antagonist", "other", "")

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "Metadata_Compound": ("compoundname", "compound", "pertiname", "drugname"),
    "Metadata_Control": ("controltype",),
    "Metadata_MoA": ("compoundmoa", "moa", "mechanismofaction", "mechanism"),
    "Metadata_InChIKey": ("compoundinchikey", "inchikey"),
    "Metadata_SMILES": ("compoundsmiles", "smiles"),
    "Metadata_Target": ("compoundtarget", "target", "targets"),
}
"""For each column of ours the spellings that mean it in any table, as `plain` gives them; the first
that a table has is read. Seen in the Cell Painting Gallery, JUMP and LINCS (pert_iname,
control_type), in annotations of the Image Data Resource (Compound Name) and in people's own."""

OF_WELLS: Mapping[str, tuple[str, ...]] = {
    "Metadata_Plate": ("plate", "barcode", "plateid", "platename", "assayplatebarcode"),
    "Metadata_Well": ("well", "wellid", "wellname", "wellposition", "cpdwellposition",
                      "platewell"),
    "Metadata_Site": ("site", "field", "fieldid", "fieldofview", "fov"),
    "Metadata_Row": ("row", "rowid", "wellrow"),
    "Metadata_Column": ("col", "column", "colid", "wellcolumn", "wellcol"),
    "Metadata_Compound": ("treatment", "drug", "broadsample", "substance", "reagent"),
    "Metadata_Solvent": ("solvent", "vehicle", "diluent"),
    "Metadata_Control": ("control", "welltype", "role", "wellrole", "samplerole", "sampletype",
                         "contenttype", "perttype"),
}
"""Further spellings in tables of wells or sites, where a treatment is a compound."""

OF_COMPOUNDS: Mapping[str, tuple[str, ...]] = {
    "Metadata_Compound": ("name",),
    "Metadata_Target": ("genesymbol", "genesymbols", "symbol", "symbols", "gene", "genes",
                        "targetgenes", "targetgene"),
}
"""Further spellings in tables of compounds, where a name is that of a compound and not of a
plate."""

OF_PROFILES: Mapping[str, tuple[str, ...]] = {
    "Metadata_Compound": ("trivialname", "pertname", "moleculename", "cpdname",
                          "sourcecompoundname", "broadid", "broadcpdid", "pertid", "jcp2022",
                          "jcpid", "compoundid", "cpdid", "cmpdid"),
    "Metadata_Control": ("assaywellrole",),
    "Metadata_Batch": ("batch", "batchid", "batchname", "batchnumber", "batchno"),
    "Metadata_Panel": ("panel", "stainpanel", "cellline", "celltype", "cellid"),
    "Metadata_MoA": ("moas", "moaname", "pertmoa"),
    "Metadata_InChIKey": ("inchikey14",),
    "Metadata_InChI": ("inchi",),
    "Metadata_SMILES": ("cpdsmiles", "canonicalsmiles", "isomericsmiles", "standardizedsmiles"),
    "Metadata_Target": ("targetlist", "perttarget", "genetarget"),
}
"""Further spellings in tables of profiles, which carry along what identifies a compound in the
Cell Painting Gallery, JUMP and LINCS."""


class Recognised(NamedTuple):
    """Which columns of a table are known.

    Attributes
    ----------
    columns : dict of str to int
        The position of each known column, by our name for it.
    notes : list of str
        A sentence for each of our columns that several of the table's could be.
    """

    columns: dict[str, int]
    notes: list[str]


def plain(header: str) -> str:
    """A column name without case, accents, punctuation and the prefixes Image_ and Metadata_."""
    header = header if header.isascii() else without_marks(header)
    header = header.lower().replace("µ", "u").replace("μ", "u")
    return re.sub(r"^(image_)?(metadata_)?|[^a-z0-9]", "", header)


Kind = Literal["wells", "compounds", "profiles"]
"""What a table has rows of; sites count as wells, and profiles are measured wells."""


def spellings(rows: Kind) -> dict[str, tuple[str, ...]]:
    """All spellings of our columns in a table of one kind.

    Returns
    -------
    dict of str to tuple of str
        By our name, the spelling that counts first in front.
    """
    further = {"wells": (OF_WELLS,), "compounds": (OF_COMPOUNDS,),
               "profiles": (OF_WELLS, OF_PROFILES)}[rows]
    tables = (SPELLINGS, *further)
    return {column: tuple(spelling for table in tables for spelling in table.get(column, ()))
            for table in tables for column in table}


def recognise(header: Sequence[str], rows: Kind, per_channel: bool = False) -> Recognised:
    """Find the columns of a table whose meaning is known.

    Parameters
    ----------
    header : sequence of str
    rows : {"wells", "compounds", "profiles"}
        What the table has rows of.
    per_channel : bool
        Whether a `Metadata_` column may end in the name of a channel, which CellProfiler adds
        where it joins the tables of several channels: Image_Metadata_Well_DAPI.

    Returns
    -------
    Recognised
        A column that has our name, in whatever case, counts before every other spelling.
    """
    names = [plain(column) for column in header]
    found: dict[str, int] = {}
    notes = []
    for ours, known in spellings(rows).items():
        exact = [at for at, column in enumerate(header) if column.lower() == ours.lower()]
        there = exact[:1] or [names.index(spelling) for spelling in known if spelling in names]
        if there:
            found[ours] = there[0]
        if len(there) > 1:
            several = listing(f"'{header[at]}'" for at in there)
            notes.append(f"'{header[there[0]]}' is read as {ours}; {several} could all be meant")
        if not there and per_channel:
            for at, column in enumerate(header):
                if (column.lower().startswith(("metadata_", "image_metadata_"))
                        and plain(column.rpartition("_")[0]) in known):
                    found.setdefault(ours, at)
    return Recognised(found, notes)
