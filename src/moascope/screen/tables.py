"""The three tables of a screen: reading them, saying all that is wrong with them, writing them.

The columns follow CellProfiler's LoadData and pycytominer: what describes a site, a well or a
compound starts with `Metadata_`.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import plain
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing
from moascope.work.files import write_atomically

SITE = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
WELL = ["Metadata_Plate", "Metadata_Well"]
LOAD_DATA = [*SITE, "Metadata_Batch", "Metadata_Panel"]
LAYOUT = [*WELL, "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"]
ANNOTATIONS = ["Metadata_Compound", "Metadata_MoA"]
CONTROLS = ("negative", "positive", "")
GPCR = ("yes", "no", "unknown", "")
GPCR_ACTIONS = ("agonist", "antagonist", "other", "")

_EXAMPLES = 5
_LINES_NAMED = 10


@dataclass(frozen=True)
class Screen:
    """A screen whose tables have been checked.

    Attributes
    ----------
    sites : DataFrame
        One row a site, sorted by plate, well and site: `Metadata_Plate` (str), `Metadata_Well`
        (str, like B02), `Metadata_Site` (int), `Metadata_Batch` and `Metadata_Panel` (str, empty
        where the table has none), then for each channel `FileName_<Channel>` (str, POSIX, relative
        to `images`; empty where the panel lacks the channel) and `Frame_<Channel>` (int, from 0).
    layout : DataFrame
        One row a well: `Metadata_Plate`, `Metadata_Well`, `Metadata_Compound` (empty for an empty
        well), `Metadata_Concentration_uM` (float, micromolar, may be NaN) and `Metadata_Control`
        ("negative", "positive" or empty).
    annotations : DataFrame
        One row a compound: `Metadata_Compound`, `Metadata_MoA` (terms separated by "|", empty for
        unknown) and whatever else the table says of the compound.
    channels : tuple of str
        In the order of the `FileName_` columns.
    images : Path
        The folder that the file names start from.
    warnings : tuple of str
        Sentences about what is odd but workable.
    """

    sites: pd.DataFrame
    layout: pd.DataFrame
    annotations: pd.DataFrame
    channels: tuple[str, ...]
    images: Path
    warnings: tuple[str, ...] = ()


@dataclass
class _Findings:
    """What is wrong, and what is odd; filled while the tables are read."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Table:
    """A CSV file as text, with the line of the file that each row starts on."""

    name: str
    rows: pd.DataFrame
    lines: np.ndarray
    decimal_comma: bool


def read_screen(folder: Path, allow_outside: bool = False) -> Screen:
    """Read a screen folder and check all three tables.

    Parameters
    ----------
    folder : Path
        Holds load_data.csv, layout.csv and annotations.csv, and where acquire made it also
        screen.json, which says where the images are.
    allow_outside : bool
        Whether the tables may name images outside the screen's folder.

    Returns
    -------
    Screen

    Raises
    ------
    MoascopeError
        With one sentence for each problem of any of the tables: what is wrong, in which file and
        line, and what to do about it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MoascopeError(f"{folder} is no folder. A screen is a folder with load_data.csv, "
                            "layout.csv and annotations.csv.")
    description = read_description(folder)
    images = images_folder(folder, description)
    findings = _Findings()
    load_data = _read_csv(folder / "load_data.csv", findings)
    layout_csv = _read_csv(folder / "layout.csv", findings)
    annotations_csv = _read_csv(folder / "annotations.csv", findings, may_be_empty=True)

    outside = allow_outside or bool(description.get("allow_outside"))
    # The images of an acquired screen are known by checksum; DVC may have made links of them.
    links = outside or bool(description)
    sites, channels = _check_sites(load_data, folder, images, outside, links, findings)
    layout = _check_layout(layout_csv, findings)
    annotations = _check_annotations(annotations_csv, findings)
    if sites is not None and layout is not None:
        _check_sites_have_wells(sites, layout, findings)
    if layout is not None and annotations is not None:
        _check_compounds_are_annotated(layout, annotations, findings)
    if findings.problems or sites is None or layout is None or annotations is None:
        raise MoascopeError(findings.problems)
    return Screen(sites, layout, annotations, channels, images, tuple(findings.warnings))


def write_screen(screen: Screen, folder: Path) -> None:
    """Write the three tables into a folder.

    Each file appears under its name only when it is complete, and equal screens give equal bytes.
    Where `screen.images` is not `folder`, write screen.json beside them (`write_description`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in [("load_data.csv", screen.sites), ("layout.csv", screen.layout),
                        ("annotations.csv", screen.annotations)]:
        write_atomically(folder / name, table.to_csv(index=False, lineterminator="\n"))


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write screen.json: where a screen is from, where its images are, licence and citation."""
    text = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(folder / "screen.json", text + "\n")


def read_description(folder: Path) -> dict[str, Any]:
    """Read screen.json; empty for a folder that has none."""
    path = folder / "screen.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise MoascopeError(f"{path} is no valid JSON ({error}). Run the acquire stage again, or "
                            "remove the file if you wrote it.") from None
    if not isinstance(description, dict) or not isinstance(description.get("images", "."), str):
        raise MoascopeError(f"{path} must be an object whose 'images' names a folder. Run the "
                            "acquire stage again, or remove the file if you wrote it.")
    return description


def images_folder(folder: Path, description: dict[str, Any]) -> Path:
    """The folder that file names start from, as screen.json says."""
    images = description.get("images", ".")
    if images == ".":
        return folder
    # `dvc exp run --temp` works in a copy of the repository. What DVC or git has there is the
    # experiment's own; all else is found from the repository itself, which DVC names in DVC_ROOT.
    if Path(images).exists():
        return Path(images)
    return Path(os.environ.get("DVC_ROOT", ".")) / images


# Reading a CSV file


class Rows(NamedTuple):
    """A CSV file as it is written: cells, the line that each row starts on, and what parts them."""

    cells: list[list[str]]
    lines: list[int]
    delimiter: str


def read_rows(path: Path) -> tuple[Rows, list[str]]:
    """Read any CSV file: UTF-8, UTF-16 or Windows-1252; separated by commas, semicolons or tabs.

    Returns
    -------
    tuple
        The rows that are not blank, and sentences about what was guessed.

    Raises
    ------
    MoascopeError
        When it cannot be read, or is a workbook.
    """
    findings = _Findings()
    try:
        rows = _rows(path.name, path.read_bytes(), findings)
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    if rows is None:
        raise MoascopeError(findings.problems)
    return rows, findings.warnings


def _rows(name: str, content: bytes, findings: _Findings) -> Rows | None:
    text = _decode(name, content, findings)
    if text is None:
        return None
    rows = Rows([], [], _delimiter(text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=rows.delimiter)
    start = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                rows.lines.append(start)
                rows.cells.append(record)
            start = reader.line_num + 1
    except csv.Error as error:
        findings.problems.append(f"{name}, line {start}: {error}. Save it as plain CSV.")
        return None
    return rows


def _read_csv(path: Path, findings: _Findings, may_be_empty: bool = False) -> _Table | None:
    name = path.name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        remedy = ("Write one with the columns Metadata_Compound and Metadata_MoA; it may have no "
                  "rows." if may_be_empty else "A screen is a folder with load_data.csv, "
                  "layout.csv and annotations.csv.")
        findings.problems.append(f"{name} is missing in {path.parent}. {remedy}")
        return None
    except OSError as error:
        findings.problems.append(f"{name} cannot be read: {error.strerror}.")
        return None
    table = _read_plain(name, content)
    if table is not None:
        return table
    rows = _rows(name, content, findings)
    if rows is None:
        return None
    records, lines, delimiter = rows
    if not records or (len(records) == 1 and not may_be_empty):
        what = "is empty" if not records else "has a header but no rows"
        findings.problems.append(f"{name} {what}. Fill it in, one row a "
                                 f"{_UNIT.get(name, 'compound')}.")
        return None

    header = [cell.strip() for cell in records[0]]
    ragged = [(line, len(record)) for line, record in zip(lines[1:], records[1:], strict=True)
              if len(record) != len(header)]
    for line, length in ragged[:_LINES_NAMED]:
        findings.problems.append(
            f"{name}, line {line}: {length} values under {len(header)} columns. Look for a comma "
            "inside a value (put the value in double quotes) or a missing value.")
    twice = sorted({column for column in header if column and header.count(column) > 1})
    for column in twice:
        findings.problems.append(f"{name} has the column '{column}' twice. Remove one.")
    if ragged or twice:
        if len(ragged) > _LINES_NAMED:
            findings.problems.append(f"{name}: {len(ragged) - _LINES_NAMED:,} more lines have "
                                     "another number of values than the header.")
        return None
    columns = list(zip(*records[1:], strict=True)) or [()] * len(header)
    if "" in header:
        findings.warnings.append(f"{name} has a column without a name, which is left out.")
    rows = pd.DataFrame({column: pd.Series(values, dtype="str")
                         for column, values in zip(header, columns, strict=True) if column})
    return _Table(name, rows, np.array(lines[1:], dtype=int), delimiter != ",")


_UNIT = {"load_data.csv": "site", "layout.csv": "well"}


def _read_plain(name: str, content: bytes) -> _Table | None:
    """A table in UTF-8 whose every line is one sound row; None where it takes a closer look.

    Reads the tables of a screen of 300,000 wells in a fraction of the time and memory, and says
    nothing of what is wrong with others.
    """
    import pyarrow as pa
    import pyarrow.csv

    try:
        line = content.partition(b"\n")[0].rstrip(b"\r").decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\r" in line:
        return None
    delimiter = _delimiter(line)
    header = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    if not all(header) or len(set(header)) != len(header):
        return None
    try:
        read = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())))
    except pa.ArrowInvalid:
        return None
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    rows = pd.DataFrame({column: pd.Series(read[column], dtype="str") for column in header})
    if rows.empty or lines != len(rows) + 1 or _has_blank_rows(rows):
        return None
    return _Table(name, rows, np.arange(2, len(rows) + 2), delimiter != ",")


def _has_blank_rows(rows: pd.DataFrame) -> bool:
    for column in rows:
        rows = rows[rows[column].str.strip() == ""]
    return len(rows) > 0


def _decode(name: str, content: bytes, findings: _Findings) -> str | None:
    if content.startswith(b"PK\x03\x04") or content.startswith(b"\xd0\xcf\x11\xe0"):
        findings.problems.append(f"{name} is an Excel workbook, not CSV. Save it from Excel as "
                                 "'CSV UTF-8'.")
        return None
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        findings.warnings.append(f"{name} is not UTF-8 and was read as Windows-1252; look whether "
                                 "names with accents or Greek letters are right.")
        return content.decode("cp1252", errors="replace")


def _delimiter(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


# Checks that the tables share


def _require(table: _Table, columns: Sequence[str], findings: _Findings) -> bool:
    found = list(table.rows.columns)
    missing = [column for column in columns if column not in found]
    for column in missing:
        names = {plain(name): name for name in found}
        near = difflib.get_close_matches(plain(column), names, n=1, cutoff=0.75)
        remedy = (f"Rename '{names[near[0]]}' if that is it." if near else
                  f"It has {listing(found, 12)}.")
        hint = " The column may be left empty." if column in _MAY_BE_BLANK else ""
        findings.problems.append(f"{table.name} has no column '{column}'. {remedy}{hint}")
    return not missing


_MAY_BE_BLANK = ("Metadata_Concentration_uM", "Metadata_Control", "Metadata_MoA")


def _report(table: _Table, wrong: pd.Series | np.ndarray, sentence: Callable[[int], str],
            findings: _Findings) -> None:
    """One sentence for each of the first rows where `wrong`, one for how many more there are."""
    rows = np.flatnonzero(np.asarray(wrong))
    for row in rows[:_LINES_NAMED]:
        findings.problems.append(f"{table.name}, line {table.lines[row]}: {sentence(int(row))}")
    if len(rows) > _LINES_NAMED:
        findings.problems.append(
            f"{table.name}: the problem of line {table.lines[rows[0]]} is in "
            f"{counted(len(rows) - _LINES_NAMED, 'more line')} too "
            f"({listing(table.lines[rows[_LINES_NAMED:]])}).")


def _check_plates(table: _Table, findings: _Findings) -> pd.Series:
    plates = table.rows["Metadata_Plate"].str.strip()
    wrong = {plate for plate in plates.unique() if not _is_folder_name(plate)}
    _report(table, plates.isin(wrong),
            lambda row: f"'{plates[row]}' cannot be the name of a plate. Use 1 to 200 characters "
                        "without / and \\ that do not start with a dot: results lie in a folder "
                        "of that name.", findings)
    return plates


def _is_folder_name(plate: str) -> bool:
    return (0 < len(plate) <= 200 and not plate.startswith(".") and plate.isprintable()
            and not set(plate) & set("/\\"))


def _check_wells(table: _Table, plates: pd.Series, findings: _Findings) -> pd.Series:
    wells = table.rows["Metadata_Well"]
    canonical, wrong = {}, {}
    for well in wells.unique():
        try:
            canonical[well] = canonical_well(well)
        except MoascopeError as error:
            wrong[well] = error.problems[0]
    _report(table, wells.isin(wrong),
            lambda row: f"plate {plates[row]}: {wrong[wells[row]]}", findings)
    return wells.map(lambda well: canonical.get(well, well)).astype("str")


def _is_canonical(wells: pd.Series) -> pd.Series:
    # What is no well has its own sentence, and must not come up again in those of other checks.
    return wells.str.fullmatch("A?[A-Z][0-9]{2}").astype(bool)


def _check_words(table: _Table, column: str, allowed: Sequence[str],
                 findings: _Findings, several: bool = False) -> pd.Series:
    words = table.rows[column].str.strip().str.lower()
    known = listing([f"'{word}'" for word in allowed if word])
    if several:
        words = words.map(lambda text: "|".join(sorted(_tidy_terms(text).split("|")))).astype("str")
    _report(table, ~words.map(lambda text: set(text.split("|") if several else [text])
                              <= set(allowed)).astype(bool),
            lambda row: f"{column} is '{table.rows[column][row].strip()}'. "
                        f"Write {known} or leave it empty.", findings)
    return words


def _check_unique(table: _Table, keys: pd.DataFrame, what: str, remedy: str,
                  findings: _Findings) -> None:
    again = keys.duplicated() & _is_canonical(keys["Metadata_Well"])
    if not again.any():
        return
    first = pd.Series(keys.index, index=pd.MultiIndex.from_frame(keys))
    first = first[~first.index.duplicated()]

    def sentence(row: int) -> str:
        values = tuple(keys.iloc[row])
        place = ", ".join(f"{column.removeprefix('Metadata_').lower()} {value}"
                          for column, value in zip(keys.columns, values, strict=True))
        return (f"{place} is already in line {table.lines[first.loc[values]]}. "
                f"Each {what} has one row; {remedy}")

    _report(table, again, sentence, findings)


# load_data.csv


def _check_sites(
    table: _Table | None, folder: Path, images: Path, allow_outside: bool, allow_links: bool,
    findings: _Findings,
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    if table is None:
        return None, ()
    channels = tuple(column.removeprefix("FileName_") for column in table.rows.columns
                     if column.startswith("FileName_") and column != "FileName_")
    complete = _require(table, SITE, findings)
    if not channels:
        findings.problems.append(
            "load_data.csv has no column 'FileName_<Channel>', such as FileName_DNA. "
            f"It has {listing(table.rows.columns, 12)}. Add one for each channel.")
    if not complete or not channels:
        return None, ()

    plates = _check_plates(table, findings)
    sites = pd.DataFrame({"Metadata_Plate": plates,
                          "Metadata_Well": _check_wells(table, plates, findings)})
    sites["Metadata_Site"] = _check_whole_numbers(table, "Metadata_Site", findings)
    for column in ("Metadata_Batch", "Metadata_Panel"):
        sites[column] = (table.rows[column].str.strip() if column in table.rows
                         else pd.Series("", index=sites.index, dtype="str"))
    for channel in channels:
        sites[f"FileName_{channel}"] = _check_files(table, channel, folder, images, allow_outside,
                                                    allow_links, findings)
        frame = f"Frame_{channel}"
        sites[frame] = (_check_whole_numbers(table, frame, findings, default=0)
                        if frame in table.rows else 0)
    files = sites[[f"FileName_{channel}" for channel in channels]]
    _report(table, (files == "").all(axis=1),
            lambda row: f"plate {plates[row]}, well {sites['Metadata_Well'][row]} names no image. "
                        "Name one for at least one channel or remove the line.", findings)
    _check_unique(table, sites[SITE], "site", "remove one or number the sites.", findings)
    _warn_of_planes_named_twice(sites, channels, findings)

    known = {*sites.columns, *(f"PathName_{channel}" for channel in channels)}
    extra = [column for column in table.rows.columns if column not in known]
    sites = pd.concat([sites, table.rows[extra]], axis=1)
    return sites.sort_values(SITE, ignore_index=True, kind="stable"), channels


def _check_whole_numbers(table: _Table, column: str, findings: _Findings,
                         default: int | None = None) -> pd.Series:
    text = table.rows[column].str.strip()
    if default is not None:
        text = text.where(text != "", str(default))
    # A table that passed through pandas or Excel may say 1.0.
    whole = text.str.fullmatch(r"[0-9]{1,9}(\.0*)?").astype(bool)
    _report(table, ~whole,
            lambda row: f"{column} is '{text[row]}', which is no whole number of 0 or more.",
            findings)
    # A number of its own for each wrong row, so that none is also reported as a duplicate.
    stand_in = pd.Series([str(-1 - row) for row in range(len(text))], dtype="str")
    return text.where(whole, stand_in).str.split(".").str[0].astype("int64")


def _check_files(table: _Table, channel: str, folder: Path, images: Path, allow_outside: bool,
                 allow_links: bool, findings: _Findings) -> pd.Series:
    column = f"FileName_{channel}"
    joined = _joined(table, channel)
    # Screens name millions of files in few folders: what can be asked of a folder is asked once.
    folders = joined.str.replace(r"[^/]*$", "", regex=True)
    bases = joined.str.replace(r"(?s)^.*/", "", regex=True)
    odd = (joined != "") & (bases.isin(["", ".", ".."]) | bases.str.contains("[:\0]"))
    root = images.resolve()
    prefixes = sorted({posixpath.abspath(images.as_posix()), root.as_posix()})
    links: dict[str, set[str] | None] = {}

    def resolve(name: str) -> tuple[str, bool]:
        """A name from `images`, and whether it leads out of there."""
        if not name or "://" in name:
            return name, False
        name = _relative_to(posixpath.normpath(name), prefixes)
        leaves = name.startswith(("/", "../")) or name == ".." or _has_drive(name)
        return name, leaves or (not allow_links and _link_leaves(root, name, links))

    code, keys = pd.factorize(folders)
    found = [resolve(f"{folder}x") if folder else ("x", False) for folder in keys]
    starts = np.array([name[:-1] for name, _ in found], object)
    names = pd.Series(starts[code], index=joined.index, dtype="str") + bases
    leaves = np.array([out for _, out in found])[code]
    singly = odd.to_numpy(copy=True)
    if not allow_links:
        with_links = [_links_of(root, name.rpartition("/")[0], links) != set()
                      for name, _ in found]
        singly |= np.array(with_links)[code] & (joined != "").to_numpy()
    for row in np.flatnonzero(singly):
        names.iloc[row], leaves[row] = resolve(joined.iloc[row])
    wrong = (leaves & (not allow_outside)) | joined.str.contains("\0", regex=False).to_numpy()

    def sentence(row: int) -> str:
        shown = posixpath.normpath(joined.iloc[row]).replace("\0", "\\0")
        return (f"{column} leads out of the screen's folder ({shown}). Move the image into the "
                "folder, or set acquire.allow_outside to true in params.yaml if that is meant.")

    _report(table, wrong, sentence, findings)
    return names


def _joined(table: _Table, channel: str) -> pd.Series:
    """Folder and file of a channel as one POSIX path, or as one address, of every row."""
    files = table.rows[f"FileName_{channel}"].str.strip()
    name = files.str.replace("\\", "/", regex=False)
    if f"PathName_{channel}" in table.rows:
        folders = table.rows[f"PathName_{channel}"].str.strip()
        path = folders.str.replace("\\", "/", regex=False)
        beside = (path + "/").where(~path.str.endswith("/"), path) + name
        name = beside.where((files != "") & (path != "") & ~name.str.startswith("/"), name)
        remote = (files != "") & folders.str.contains("://", regex=False)
        name = (folders.str.rstrip("/") + "/" + files).where(remote, name)
    remote = files.str.contains("://", regex=False)
    return files.where(remote, name) if remote.any() else name


def _relative_to(name: str, prefixes: Sequence[str]) -> str:
    if name.startswith("/"):
        for prefix in prefixes:
            if name.startswith(prefix.rstrip("/") + "/"):
                return name[len(prefix.rstrip("/")) + 1:]
    return name


def _has_drive(name: str) -> bool:
    return len(name) > 1 and name[1] == ":" and name[0].isalpha()


def _link_leaves(root: Path, name: str, links: dict[str, set[str] | None]) -> bool:
    """Whether a symbolic link on the way leads out of `root`; `links` remembers what was seen."""
    folder, _, file = name.rpartition("/")
    of_folder = _links_of(root, folder, links)
    return of_folder is None or (file.casefold() in of_folder
                                 and not (root / name).resolve().is_relative_to(root))


def _links_of(root: Path, folder: str, links: dict[str, set[str] | None]) -> set[str] | None:
    if folder not in links:
        links[folder] = _links_in(root / folder, root)
    return links[folder]


def _links_in(folder: Path, root: Path) -> set[str] | None:
    """The symbolic links in a folder, or None for a folder outside of `root`."""
    try:
        if not folder.resolve().is_relative_to(root):
            return None
        with os.scandir(folder) as entries:
            return {entry.name.casefold() for entry in entries if entry.is_symlink()}
    except (OSError, ValueError):
        return set()


def _warn_of_planes_named_twice(sites: pd.DataFrame, channels: Sequence[str],
                                findings: _Findings) -> None:
    planes = pd.concat([
        pd.DataFrame({"file": sites[f"FileName_{channel}"], "frame": sites[f"Frame_{channel}"]})
        for channel in channels
    ])
    again = planes[(planes["file"] != "") & planes.duplicated()]
    if len(again):
        examples = listing(again["file"].unique(), 3)
        findings.warnings.append(
            f"load_data.csv names planes more than once ({len(again):,}): {examples}. Two channels "
            "or sites then show the same picture; several channels in one file need a Frame_ "
            "column each.")


# layout.csv


def _check_layout(table: _Table | None, findings: _Findings) -> pd.DataFrame | None:
    if table is None or not _require(table, LAYOUT, findings):
        return None
    plates = _check_plates(table, findings)
    layout = pd.DataFrame({
        "Metadata_Plate": plates,
        "Metadata_Well": _check_wells(table, plates, findings),
        "Metadata_Compound": table.rows["Metadata_Compound"].str.strip(),
        "Metadata_Concentration_uM": _check_concentrations(table, findings),
        "Metadata_Control": _check_words(table, "Metadata_Control", CONTROLS, findings),
    })
    _check_unique(table, layout[WELL], "well", "remove one.", findings)
    _report(table, (layout["Metadata_Control"] != "") & (layout["Metadata_Compound"] == ""),
            lambda row: f"plate {plates[row]}, well {layout['Metadata_Well'][row]} is a control "
                        "without a Metadata_Compound. Name what is in it, such as DMSO.", findings)
    extra = [column for column in table.rows.columns if column not in LAYOUT]
    layout = pd.concat([layout, table.rows[extra]], axis=1)
    return layout.sort_values(WELL, ignore_index=True, kind="stable")


def _check_concentrations(table: _Table, findings: _Findings) -> pd.Series:
    column = "Metadata_Concentration_uM"
    text = table.rows[column].str.strip()
    if table.decimal_comma and text.str.contains(",", regex=False).any():
        text = text.str.replace(",", ".", regex=False)
        findings.warnings.append(f"{table.name} is separated by semicolons or tabs; the comma in "
                                 f"{column} was read as the decimal mark.")
    blank = text.str.lower().isin(["", "na", "nan"])
    numbers = pd.to_numeric(text.where(~blank, "0"), errors="coerce")
    wrong = ~(numbers >= 0) | np.isinf(numbers)
    _report(table, wrong,
            lambda row: f"{column} is '{table.rows[column][row].strip()}', which is no "
                        "concentration in micromolar. Write a number of 0 or more without a unit, "
                        "or leave it empty.", findings)
    return numbers.astype("float64").where(~blank, np.nan)


def _check_sites_have_wells(sites: pd.DataFrame, layout: pd.DataFrame,
                            findings: _Findings) -> None:
    known = pd.MultiIndex.from_frame(layout[WELL])
    sites = sites[_is_canonical(sites["Metadata_Well"])]
    lost = ~pd.MultiIndex.from_frame(sites[WELL]).isin(known)
    if not lost.any():
        return
    wells = sites.loc[lost, WELL].drop_duplicates()
    examples = listing((f"plate {plate}, well {well}" for plate, well in wells.to_numpy()), 3)
    if lost.all():
        findings.problems.append(
            f"No site of load_data.csv has its well in layout.csv ({examples}). Metadata_Plate "
            f"must be written alike in both: layout.csv has {listing(layout[WELL[0]].unique())}.")
    else:
        findings.warnings.append(
            f"Sites in wells that layout.csv does not have ({lost.sum():,} of {len(sites):,}): "
            f"{examples}. Nothing is known of them, so nothing is learnt from them.")


# annotations.csv


def _check_annotations(table: _Table | None, findings: _Findings) -> pd.DataFrame | None:
    if table is None or not _require(table, ANNOTATIONS, findings):
        return None
    annotations = table.rows.copy()
    for column in (*ANNOTATIONS, "Metadata_InChIKey", "Metadata_SMILES"):
        if column in annotations:
            annotations[column] = annotations[column].str.strip()
    if "Metadata_InChIKey" in annotations:
        annotations["Metadata_InChIKey"] = annotations["Metadata_InChIKey"].str.upper()
    for column, words in [("gpcr", GPCR), ("gpcr_action", GPCR_ACTIONS)]:
        if column in annotations:
            annotations[column] = _check_words(table, column, words, findings,
                                               several=column == "gpcr_action")
    annotations["Metadata_MoA"] = annotations["Metadata_MoA"].map(_tidy_terms).astype("str")
    compounds = annotations["Metadata_Compound"]
    _report(table, compounds == "",
            lambda row: "an annotation without a Metadata_Compound. Name the compound or remove "
                        "the line.", findings)
    distinct = annotations[(compounds != "") & ~annotations.duplicated()]
    first = distinct.index.to_series().groupby(distinct["Metadata_Compound"]).transform("first")
    conflicting = pd.Series(False, index=annotations.index)
    conflicting[distinct.index] = (first != distinct.index)
    _report(table, conflicting,
            lambda row: f"{compounds[row]} was annotated otherwise in line "
                        f"{table.lines[first[row]]}. Each compound has one row; keep one, or join "
                        "two mechanisms with '|'.", findings)
    annotations = annotations[~annotations.duplicated()]
    leading = [*ANNOTATIONS, *(column for column in annotations if column not in ANNOTATIONS)]
    return annotations[leading].sort_values("Metadata_Compound", ignore_index=True, kind="stable")


def _tidy_terms(terms: str) -> str:
    return "|".join(dict.fromkeys(term.strip() for term in terms.split("|") if term.strip()))


def _check_compounds_are_annotated(layout: pd.DataFrame, annotations: pd.DataFrame,
                                   findings: _Findings) -> None:
    plated = layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"].unique()
    annotated = set(annotations["Metadata_Compound"])
    by_lower = {compound.lower(): compound for compound in annotated}
    missing = sorted(compound for compound in plated if compound and compound not in annotated)
    if missing:
        findings.warnings.append(
            "Compounds of layout.csv without a row in annotations.csv count as unknown "
            f"({len(missing):,}): {listing(missing)}.")
    spelt = [(compound, by_lower[compound.lower()]) for compound in missing
             if compound.lower() in by_lower]
    if spelt:
        pairs = listing((f"'{ours}' and '{theirs}'" for ours, theirs in spelt), 3)
        findings.warnings.append(
            "Compounds differ between layout.csv and annotations.csv in upper and lower case only "
            f"({len(spelt):,}): {pairs}. Write them alike if they are the same.")
    unplated = sorted(annotated - set(layout["Metadata_Compound"]))
    if unplated:
        findings.warnings.append(
            f"Compounds of annotations.csv in no well of layout.csv are not used "
            f"({len(unplated):,}): {listing(unplated)}.")
