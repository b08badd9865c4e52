"""Several screen folders as one screen, so that one head learns from the wells of all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.addresses.names import is_address
from moascope.errors import MoascopeError
from moascope.screen.columns import SITE
from moascope.screen.compounds import name_key, structure
from moascope.screen.description import images_folder, read_description, write_description
from moascope.screen.profile_plates import join_profile_plates
from moascope.screen.reading import LINES_NAMED
from moascope.screen.tables import Screen, read_screen, write_screen
from moascope.screen.terms import moa_terms, term_key
from moascope.sources.folder import acquire_folder
from moascope.text import counted, listing

_PLATE, _BATCH = SITE[0], "Metadata_Batch"


def acquire_folders(paths: Sequence[str], out: Path, allow_outside: bool = False) -> list[str]:
    """Import several screen folders as one screen; see `moascope.sources.folder.acquire_folder`.

    Parameters
    ----------
    paths : sequence of str
        The folders. The name of a folder is the name of its screen.
    out : Path
        Receives the tables and profiles of all, and source.json, which names each folder with its
        licence and citation.
    allow_outside : bool
        As for one folder.

    Returns
    -------
    list of str
        A sentence for everything that was decided: plates and batches that several screens name
        alike get the name of their screen in front, and a screen without batches is one batch.

    Raises
    ------
    MoascopeError
        With the problems of each screen; where two folders have one name; where the screens have
        other channels or features than the first, or annotate a compound differently.
    """
    names = [Path(path).resolve().name for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MoascopeError(f"acquire.path and acquire.more name several folders {twice[0]!r}, and "
                            "a screen has the name of its folder. Rename one of them.")
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix=".screens-", dir=out) as work:
        screens, described, problems = {}, {}, []
        for name, path in zip(names, paths, strict=True):
            own = Path(work) / name
            own.mkdir()
            try:
                notes += [f"{name}: {note}" for note in acquire_folder(
                    Path(path), own, allow_outside,
                    "acquire.more" if screens or problems else "acquire.path")]
                screens[name] = read_screen(own, allow_outside)
                described[name] = {"name": name, "path": path, **read_description(own)}
            except MoascopeError as error:
                problems += [f"{name}: {problem}" for problem in error.problems]
        if problems:
            raise MoascopeError(problems)
        _check_alike(screens)
        images = _common_images(screens, described)
        plates, batches = _told_apart(screens, _PLATE, notes), _told_apart(screens, _BATCH, notes)
        joined = Screen(
            _joined([_sites(screen, images, plates[name], batches[name])
                     for name, screen in screens.items()]),
            _joined([screen.layout.assign(**{_PLATE: screen.layout[_PLATE].map(plates[name])})
                     for name, screen in screens.items()]),
            _joined_annotations(screens), next(iter(screens.values())).channels, Path(images))
        write_screen(joined, out)
        join_profile_plates([(screen.profiles, plates[name], batches[name], name)
                             for name, screen in screens.items()
                             if screen.profiles is not None], out)
    write_description(out, _description(list(described.values()), images))
    return notes


def what_lies_in(paths: Sequence[str]) -> str:
    """SHA-256 of the names, sizes and times of all files in folders, which are not read."""
    total = hashlib.sha256()
    for path in paths:
        folder = images_folder(Path(path), {"images": path})
        total.update(f"{path}\n".encode(errors="surrogateescape"))
        for place, folders, files in os.walk(folder, followlinks=True):
            folders.sort()
            for file in sorted(files):
                at = Path(place) / file
                # A link whose file is gone counts as it is.
                found = at.stat(follow_symlinks=at.exists())
                total.update(f"{at.relative_to(folder)} {found.st_size} {found.st_mtime_ns}\n"
                             .encode(errors="surrogateescape"))
    return total.hexdigest()


def _check_alike(screens: Mapping[str, Screen]) -> None:
    (first, model), *others = screens.items()
    for name, screen in others:
        if (screen.profiles is None) != (model.profiles is None):
            raise MoascopeError(
                f"{first} and {name} cannot be one screen, because only one of them has profiles. "
                "Give each its profiles, or none.")
        # Files of one kind of microscopy name channels in any order.
        if set(screen.channels) != set(model.channels):
            raise MoascopeError(
                f"{first} has the channels {listing(model.channels) or 'none'} and {name} "
                f"{listing(screen.channels) or 'none'}. Screens that are acquired as one have the "
                "same FileName_ columns: rename those that show the same stain, or acquire "
                "the screens one by one.")
        if model.profiles is None or screen.profiles is None:
            continue
        if differ := sorted(set(model.profiles.features) ^ set(screen.profiles.features)):
            raise MoascopeError(
                f"The profiles of {first} and {name} differ in "
                f"{counted(len(differ), 'feature')}: {listing(differ, 3)}. Screens that are "
                "acquired as one have the same features: remove columns that only one has.")
        if model.profiles.by_site != screen.profiles.by_site:
            raise MoascopeError(
                f"Of {first} and {name}, one has a profile per site and the other one per well. "
                "Average the sites of a well, or acquire the screens one by one.")


def _told_apart(screens: Mapping[str, Screen], column: str,
                notes: list[str]) -> dict[str, dict[str, str]]:
    """By screen, another name for each that is empty or that several screens have."""
    values = {name: {value: value or name for value in _values(screen, column)}
              for name, screen in screens.items()}
    shared = _repeated(values)
    found = {name: {value: f"{name}_{new}" if new in shared else new for value, new in own.items()}
             for name, own in values.items()}
    what = column.removeprefix("Metadata_").lower()
    if again := _repeated(found):
        raise MoascopeError(f"Several screens would have the {what} {listing(sorted(again))}, also "
                            "with their names in front. Rename it in one of them.")
    if shared:
        notes.append(f"Screens share the {what} names {listing(sorted(shared), 3)}, which get the "
                     "name of their screen in front.")
    return found


def _values(screen: Screen, column: str) -> list[str]:
    found = pd.concat([table[column] for table in (screen.sites, screen.layout)
                       if column in table]).unique().tolist()
    return [*found, *(screen.profiles.digests if screen.profiles and column == _PLATE else ())]


def _repeated(names: Mapping[str, Mapping[str, str]]) -> set[str]:
    """New names that several screens have, or one screen twice."""
    counts = Counter(value for own in names.values() for value in own.values())
    return {value for value, count in counts.items() if count > 1}


def _sites(screen: Screen, images: str, plates: Mapping[str, str],
           batches: Mapping[str, str]) -> pd.DataFrame:
    sites = screen.sites.assign(**{column: screen.sites[column].map(names)
                                   for column, names in ((_PLATE, plates), (_BATCH, batches))})
    if not screen.channels:
        return sites
    within = os.path.relpath(screen.images.resolve(), images_folder(
        Path(), {"images": images}).resolve())
    for channel in screen.channels:
        names = sites[f"FileName_{channel}"]
        own = ~((names == "") | names.str.startswith("/") | names.map(is_address).astype(bool))
        sites[f"FileName_{channel}"] = names.where(~own, f"{Path(within).as_posix()}/" + names)
    return sites


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other; a column that one of them lacks is empty there."""
    joined = pd.concat(tables, ignore_index=True)
    words = [column for column in joined if joined[column].dtype == "str"]
    return joined.fillna(dict.fromkeys(words, ""))


def _common_images(screens: Mapping[str, Screen], described: Mapping[str, Any]) -> str:
    """The folder in which the images of all screens lie."""
    if not next(iter(screens.values())).channels:
        return "."
    given = [one["images"] for one in described.values()]
    common = "" if any(map(os.path.isabs, given)) else os.path.commonpath(given)
    # "." would be the acquired screen's own folder.
    return common or os.path.commonpath([screen.images.resolve() for screen in screens.values()])


def _description(screens: Sequence[Mapping[str, Any]], images: str) -> dict[str, Any]:
    def said(key: str) -> str:
        return "; ".join(dict.fromkeys(str(one[key]) for one in screens if one.get(key)))

    return {
        "source": "folder",
        **({"images": images} if any("images" in one for one in screens) else {}),
        "licence": said("licence"), "citation": said("citation"),
        **({"non_commercial": True} if said("non_commercial") else {}),
        **({"caveat": said("caveat")} if said("caveat") else {}),
        **({"allow_outside": True} if said("allow_outside") else {}),
        "screens": [{key: one[key] for key in ("name", "path", "licence", "citation")}
                    for one in screens],
    }


def _mechanisms(cell: str) -> str:
    return "|".join(sorted(term_key(term) for term in moa_terms(cell)))


# What screens must agree on, and what of a cell is compared; nothing where it says nothing.
_COMPARED: dict[str, Callable[[str], str]] = {
    "Metadata_MoA": _mechanisms,
    "Metadata_InChIKey": structure,
    "gpcr": lambda word: "" if word == "unknown" else word,
    "gpcr_action": str,
}


def _joined_annotations(screens: Mapping[str, Screen]) -> pd.DataFrame:
    """One row per compound: of each column what the first screen says that knows it.

    Raises
    ------
    MoascopeError
        Where screens contradict each other.
    """
    table = _joined([screen.annotations for screen in screens.values()])
    place = pd.Series([name for name, screen in screens.items() for _ in range(
        len(screen.annotations))], dtype="str")
    key = table["Metadata_Compound"].map(name_key)
    first = {}
    problems: list[str] = []
    for column in table:
        said = table[column].map(_COMPARED.get(str(column), str))
        known = (said != "").to_numpy(bool)
        first[column] = table[column][known].groupby(key[known]).first()
        if column not in _COMPARED:
            continue
        several = said[known].groupby(key[known]).nunique()
        contradicted = sorted(several.index[several > 1])
        for compound in contradicted[:LINES_NAMED]:
            rows = table[known & (key == compound)].index
            rows = rows[~said[rows].duplicated()]
            cells = listing(f"'{table[column][row]}' in {place[row]}" for row in rows)
            problems.append(f"{table['Metadata_Compound'][rows[0]]} is annotated differently: "
                            f"{column} is {cells}. Correct annotations.csv in one of the screens.")
        if len(contradicted) > LINES_NAMED:
            problems.append(f"{counted(len(contradicted) - LINES_NAMED, 'more compound')} with "
                            f"contradicting {column}.")
    if problems:
        raise MoascopeError(problems)
    compounds = table.loc[~key.duplicated(), "Metadata_Compound"]
    joined = pd.DataFrame({column: key[compounds.index].map(found).fillna("").astype("str")
                           for column, found in first.items()})
    # An uncertain answer counts where no screen has another.
    if "gpcr" in joined:
        unsure = key[compounds.index].isin(set(key[table["gpcr"] == "unknown"]))
        joined["gpcr"] = joined["gpcr"].where((joined["gpcr"] != "") | ~unsure, "unknown")
    return joined.sort_values("Metadata_Compound", ignore_index=True)
