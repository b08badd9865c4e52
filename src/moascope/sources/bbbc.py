"""The sources `bbbc013` and `bbbc016`: one plate each, of one archive and one plate map.

Names of files and what the plate maps mean as read in provenance notes of public repositories
(BBBC013: 96 doses row by row, wortmannin in nM above, LY294002 in uM below; BBBC016: 72 doses, one
per field in the order of the file names). None of the addresses could be opened when this was
written.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import read_file
from moascope.params import Bbbc013, Bbbc016
from moascope.screen.wells import well_name
from moascope.sources.download import Wanted, fetch, place_of
from moascope.sources.http import Visit, below
from moascope.sources.plan import Collected, Origin, Plan
from moascope.sources.unpacking import unpack
from moascope.work.archives import check_archive, members_of

_LICENCE = "CC BY 3.0, Ilya Ravkin"
_CITATION = ("We used image set {} provided by Ilya Ravkin, available from the Broad Bioimage "
             "Benchmark Collection [Ljosa et al., Nature Methods, 2012].")
ORIGIN_013 = Origin("Human U2OS cells, cytoplasm-nucleus translocation of FKHR-GFP (BBBC013v1)",
                    _LICENCE, _CITATION.format("BBBC013v1"), "https://bbbc.broadinstitute.org/BBBC013")
ORIGIN_016 = Origin("Human U2OS cells, Transfluor assay of an orphan GPCR (BBBC016v1)",
                    _LICENCE, _CITATION.format("BBBC016v1"), "https://bbbc.broadinstitute.org/BBBC016")
SHA256 = {
    "BBBC013_v1_images_bmp.zip": "c059b569d96f70ad5626fad144867e6ece4353622119c46a8af8f9794f1e7985",
    "BBBC013_v1_platemap_all.txt":
        "e8db6666271d47962fa7d2abfa3ea965352b8e87bee461f2983d0f667bc7ff08",
    "BBBC016_v1_images.zip": "866ea3e6229a0f6fa2c9a18852b3274f7617326ecfae15d40f7f5e1123df7dd1",
    "BBBC016_v1_platemap.txt": "5324f1958d264d2f9a732dbad554a851b7e77a3cc6dd8719973dce0f46e44076",
}
MOST_ARCHIVE_BYTES = 1 << 30
MOST_PLANE_BYTES = 1 << 24
_MOST_MAP_BYTES = 1 << 20
_BYTES_013 = 2 * 96 * 640 * 640     # of the pictures unpacked; the archives are smaller
_BYTES_016 = 144 * 512 * 512
_FIELD_016 = re.compile(r"_O([0-9]{2})f([0-9]{2})d0\.TIF$", re.IGNORECASE)


def plan_013(params: Bbbc013, downloads: Path, session: Visit) -> Plan:
    """Size of BBBC013; nothing is downloaded for it."""
    return Plan("bbbc013", ORIGIN_013, 1, 48 * len(params.compounds), len(params.compounds),
                48 * len(params.compounds), 2, _BYTES_013, exact=False,
                room=_room(_BYTES_013, downloads))


def plan_016(params: Bbbc016, downloads: Path, session: Visit) -> Plan:
    """Size of BBBC016; nothing is downloaded for it."""
    return Plan("bbbc016", ORIGIN_016, 1, 24, 1, 72, 2, _BYTES_016, exact=False, notes=(
        "it has one compound, so it can show activity against control wells, not mechanisms.",),
                room=_room(_BYTES_016, downloads))


def _room(size: int, downloads: Path) -> int:
    # The archive goes only when it is unpacked.
    return 0 if (downloads / "images").is_dir() else 2 * size


def collect_013(params: Bbbc013, downloads: Path, session: Visit,
                most_missing: float) -> Collected:
    """Download BBBC013 and make its tables: 96 wells, one field, GFP and DNA.

    Rows A to D are wortmannin, E to H LY294002, both inhibitors of PI3K. E12 to H12 are without a
    compound by the maker's notes and have no role here.
    """
    doses = _plate_map(params.files, "BBBC013_v1_platemap_all.txt", 96, downloads, session)[1]
    names = {(row, column): f"{row * 12 + column + 1:02d}-{'ABCDEFGH'[row]}-{column + 1:02d}.BMP"
             for row in range(8) for column in range(12)}
    _unpacked(params.files, "BBBC013_v1_images_bmp.zip",
              [f"Channel{channel}-{name}" for channel in (1, 2) for name in names.values()],
              downloads, session)
    sites, layout = [], []
    for (row, column), name in names.items():
        compound, unit = ("wortmannin", 1e-3) if row < 4 else ("LY294002", 1.0)
        dose = doses[row * 12 + column]
        if compound not in params.compounds:
            continue
        well = {"Metadata_Plate": "BBBC013", "Metadata_Well": well_name(row, column)}
        sites.append(well | {"Metadata_Site": 1, "FileName_GFP": f"images/Channel1-{name}",
                             "FileName_DNA": f"images/Channel2-{name}"})
        empty = dose == 0 and column == 11
        highest = column == (11 if row < 4 else 0) and dose > 0
        layout.append(well | {
            "Metadata_Compound": "" if empty else compound if dose else "DMSO",
            "Metadata_Concentration_uM": f"{dose * unit:g}" if dose else "",
            "Metadata_Control": ("positive" if highest else "" if dose or empty else "negative")})
    return Collected(
        pd.DataFrame(sites), pd.DataFrame(layout),
        pd.DataFrame({"Metadata_Compound": sorted(params.compounds),
                      "Metadata_MoA": "PI3K inhibitor"}),
        about={"selection": {"compounds": sorted(params.compounds)}})


def collect_016(params: Bbbc016, downloads: Path, session: Visit,
                most_missing: float) -> Collected:
    """Download BBBC016 and make its tables: 24 wells of row O, three fields, GFP and DNA.

    The compound is not named by its maker. Its concentration is kept as the plate map has it
    (`Metadata_Dose`), and in micromolar where the map's heading says the unit.
    """
    heading, doses = _plate_map(params.files, "BBBC016_v1_platemap.txt", 72, downloads, session)
    archive = downloads / "BBBC016_v1_images.zip"
    if not (downloads / "images").is_dir():
        _fetch_archive(params.files, archive, session)
    names = _names_016(archive, downloads / "images")
    _unpacked(params.files, archive.name,
              [name for pair in names.values() for name in pair], downloads, session)
    if len(names) != len(doses):
        raise MoascopeError(f"{archive.name} has {len(names)} fields and the plate map "
                            f"{len(doses)} doses. This is not the image set that moascope knows.")
    factor = next((factor for unit, factor in (("nm", 1e-3), ("um", 1.0), ("µm", 1.0), ("μm", 1.0))
                   if re.search(rf"\b{unit}\b", heading.casefold())), None)
    sites, layout = [], {}
    for (well_number, field), dose in zip(sorted(names), doses, strict=True):
        dna, gfp = names[well_number, field]
        well = {"Metadata_Plate": "BBBC016", "Metadata_Well": well_name(14, well_number - 1)}
        sites.append(well | {"Metadata_Site": field, "FileName_GFP": f"images/{gfp}",
                             "FileName_DNA": f"images/{dna}"})
        of_well = well | {
            "Metadata_Compound": "BBBC016 agonist" if dose else "DMSO",
            "Metadata_Concentration_uM": f"{dose * factor:g}" if dose and factor else "",
            "Metadata_Control": "" if dose else "negative", "Metadata_Dose": f"{dose:g}"}
        if layout.setdefault(well_number, of_well) != of_well:
            raise MoascopeError(f"BBBC016_v1_platemap.txt gives well {well['Metadata_Well']} more "
                                "than one dose. This is not the image set that moascope knows.")
    return Collected(
        pd.DataFrame(sites), pd.DataFrame(list(layout.values())),
        pd.DataFrame({"Metadata_Compound": ["BBBC016 agonist"],
                      "Metadata_MoA": ["G-protein-coupled receptor agonist"]}))


def _plate_map(files: str, name: str, count: int, downloads: Path,
               session: Visit) -> tuple[str, list[float]]:
    url = below(files, name)
    path = place_of(url, downloads)
    fetch(session, Wanted(url, path, sha256=SHA256.get(name)))
    return read_plate_map(path, count)


def read_plate_map(path: Path, count: int) -> tuple[str, list[float]]:
    """Read a plate map of these sets: a heading, then one dose per line.

    Returns
    -------
    heading : str
    doses : list of float, [count]

    Raises
    ------
    MoascopeError
        Where the file is not such a map.
    """
    try:
        text = read_file(path, _MOST_MAP_BYTES).decode(errors="replace")
        heading, *lines = text.splitlines() or [""]
        doses = [float(line) for line in lines if line.strip()]
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        doses = []
    if len(doses) != count or not all(0 <= dose < float("inf") for dose in doses):
        raise MoascopeError(f"{path} does not have a heading and {count} doses, as the known plate "
                            "map does. Remove it and run the command again.")
    return heading, doses


def _fetch_archive(files: str, path: Path, session: Visit) -> None:
    fetch(session, Wanted(below(files, path.name), path, sha256=SHA256.get(path.name),
                          most_bytes=MOST_ARCHIVE_BYTES, check=check_archive))


def _unpacked(files: str, archive: str, names: list[str], downloads: Path,
              session: Visit) -> None:
    if (downloads / "images").is_dir():
        return
    path = downloads / archive
    _fetch_archive(files, path, session)
    lacking = unpack(path, {name: name for name in names}, downloads / "images", MOST_PLANE_BYTES)
    if lacking:
        raise MoascopeError(f"{archive} lacks {len(lacking)} images, the first {lacking[0]}. This "
                            "is not the image set that moascope knows.")
    path.unlink()


def _names_016(archive: Path, images: Path) -> dict[tuple[int, int], tuple[str, str]]:
    """(well number, field) -> names of the DNA and the GFP picture."""
    listed = ([path.name for path in images.iterdir()] if images.is_dir()
              else [Path(name).name for name in members_of(archive)])
    known = {name.casefold(): name for name in listed}
    names = {}
    for name in listed:
        match = _FIELD_016.search(name)
        if match:
            other = known.get(re.sub(r"d0(\.tif)$", r"d2\1", name.casefold()))
            if other is None:
                raise MoascopeError(f"{archive.name} has {name} without its GFP image.")
            names[int(match[1]), int(match[2])] = (name, other)
    return names
