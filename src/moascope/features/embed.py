"""From prepared crops to the table of features, plate by plate."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.backbones import Backbone, find_weights, open_backbone, weights_digest
from moascope.features.disk import is_large
from moascope.features.profiles import (
    check_measured,
    embed_profiles,
    profile_features,
    without_empty,
)
from moascope.features.table import (
    FEATURES_FILE,
    PROFILES,
    FeatureTable,
    join_backbones,
    join_plates,
    label_of,
    load_features,
)
from moascope.params import KERAS_FILE, Embed, Head, Prepare
from moascope.pixels.prepare import prepare_in_memory, prepare_plates
from moascope.pixels.prepared import PreparedPlate, prepared_plates
from moascope.screen.profile_plates import write_profile_plates
from moascope.work.code import code_digest
from moascope.work.digests import digest
from moascope.work.files import write_atomically
from moascope.work.plates import update_plates
from moascope.work.processes import ahead

if TYPE_CHECKING:
    from moascope.screen.profiles import Profiles
    from moascope.screen.tables import Screen

WEIGHTS_FILE = "weights.sha256"
SITES_AT_ONCE = 64  # bounds memory, and is enough to keep every core busy


def embed_plate(plate: PreparedPlate, out: Path, backbone: Backbone) -> None:
    """Compute the features of one prepared plate.

    Every channel of every crop passes through the backbone separately. A site's vector is the mean
    over its crops, with the vectors of the channels concatenated.

    Parameters
    ----------
    plate : PreparedPlate
    out : Path
        Existing folder that gets `features.parquet`: one row per site with `Metadata_` columns,
        `QC_Pass`, `Count_` and `Intensity_` columns from prepare, and the backbone's features as
        float32 `<Backbone>_<Channel>_<name>` and `<Backbone>_<A>_<B>_<name>`.
    backbone : Backbone
    """
    sites, features, names = plate_features(plate.sites(), plate.channels, plate.crops(), backbone)
    table = pd.concat([sites, pd.DataFrame(features, columns=names)], axis=1)
    table.to_parquet(out / FEATURES_FILE, index=False)


def plate_features(sites: pd.DataFrame, channels: Sequence[str], crops: np.ndarray,
                   backbone: Backbone) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """What `embed_plate` writes, in memory.

    Parameters
    ----------
    sites, channels, crops
        Of a `PreparedPlate`.
    backbone : Backbone

    Returns
    -------
    sites : DataFrame
        All columns but the backbone's features.
    features : ndarray, float32 [sites, features]
    names : list of str
        Of the features.
    """
    pairs = list(itertools.combinations(range(len(channels)), 2)) if backbone.pairs else []
    features = np.empty(
        (len(sites), len(channels) * len(backbone.names) + len(pairs) * len(backbone.pair_names)),
        np.float32)
    parts = [slice(start, start + SITES_AT_ONCE) for start in range(0, len(sites), SITES_AT_ONCE)]
    # The next sites come from the disk while the backbone is at work.
    with contextlib.closing(ahead(lambda part: crops[part].copy(), parts, 1)) as blocks:
        for part, block in zip(parts, blocks, strict=True):
            features[part] = _site_vectors(block, backbone, pairs)
    owners = [((channel,), name) for channel in range(len(channels)) for name in backbone.names]
    owners += [(pair, name) for pair in pairs for name in backbone.pair_names]
    names = ["_".join([backbone.label, *(channels[index] for index in seen), name])
             for seen, name in owners]
    # A channel that a site lacks is black in the store, which must not pass for a measurement.
    for index, channel in enumerate(channels):
        absent = sites[f"Intensity_{channel}_Mean"].isna().to_numpy()
        features[np.ix_(absent, [index in seen for seen, _ in owners])] = np.nan
    kept = [name for name in sites.columns
            if name.startswith(("Metadata_", "Count_", "Intensity_")) or name == "QC_Pass"]
    return sites[kept], features, names


def _site_vectors(block: np.ndarray, backbone: Backbone,
                  pairs: list[tuple[int, int]]) -> np.ndarray:
    sites, crops, channels, *_, crop = block.shape
    planes = backbone.planes(block.reshape(-1, crop, crop))
    alone = planes.reshape(sites, crops, -1).mean(axis=1, dtype=np.float64)
    if not pairs:
        return alone
    planes = block.reshape(sites * crops, channels, crop, crop)
    together = [
        backbone.pairs(planes[:, first], planes[:, second])
        .reshape(sites, crops, -1).mean(axis=1, dtype=np.float64)
        for first, second in pairs
    ]
    return np.concatenate([alone, *together], axis=1)


def embed_plates(prepared: Path, out: Path, settings: Embed, jobs: int,
                 profiles: Profiles | None = None) -> dict[str, tuple[int, int]]:
    """Bring the features of all plates up to date.

    Parameters
    ----------
    prepared : Path
        From `moascope.pixels.prepare.prepare_plates`; without plates where a screen has no images.
    out : Path
        Gets a folder per backbone, in it one per plate; a plate whose crops, weights, settings and
        code have not changed is kept. Folders of backbones that are not named are removed.
    settings : Embed
    jobs : int
        Number of processes, for backbones that do not use threads.
    profiles : Profiles, optional
        Of the screen, divided by plate.

    Returns
    -------
    dict
        For each backbone, how many plates were embedded and how many were kept.

    Raises
    ------
    MoascopeError
        If weights are needed and not available, or the screen lacks images or profiles.
    """
    labels = {name: label_of(name) for name in settings.backbones}
    if len(set(labels.values())) < len(labels):
        raise MoascopeError("embed.backbone: two model files with the same name would have the "
                            "same feature names. Rename one.")
    plates = prepared_plates(prepared)
    check_measured(settings, bool(plates) or profiles is None, profiles is not None)
    code = code_digest(_embed_one)
    # Look for all before using the first: a missing file is reported at once.
    weights = {name: find_weights(name, settings) for name in settings.backbones}
    outcome = {}
    for name, file in weights.items():
        seen = weights_digest(file)
        if name == PROFILES and profiles is not None:
            outcome[name] = embed_profiles(profiles, plates, prepared, out / labels[name], jobs)
            continue
        keys = {plate.name: digest(plate.key, _identity(name), settings.precision,
                                   settings.turns, seen, code) for plate in plates}
        work = functools.partial(_embed_one, name, settings.precision, settings.turns, seen)
        # A network brings threads of its own.
        outcome[name] = update_plates(out / labels[name], keys, work, 1 if file else jobs,
                                      f"embed {labels[name]}", (prepared, file))
        write_atomically(out / labels[name] / WEIGHTS_FILE, seen + "\n")
    for folder in out.iterdir():
        if folder.is_dir() and folder.name not in labels.values():
            shutil.rmtree(folder)
    return outcome


def embedded_with(folder: Path, name: str, file: Path) -> bool:
    """Whether the features of a backbone in `data/embed` were made with a given weights file."""
    try:
        return (folder / label_of(name) / WEIGHTS_FILE).read_text().strip() == weights_digest(file)
    except FileNotFoundError:
        return False


def embed_for(embed: Embed, head: Head) -> Embed:
    """The embedding that a head needs when it is served: its own backbone alone."""
    if head.backbone == "all":
        return embed
    weights = embed.weights
    if isinstance(weights, dict):
        weights = {name: file for name, file in weights.items() if name == head.backbone}
    return embed.model_copy(update={"backbone": head.backbone, "weights": weights})


def weights_in_use(embedded: Path, embed: Embed) -> dict[str, Path]:
    """The weights file of each backbone, checked to be the one that the features were made with.

    Raises
    ------
    MoascopeError
        If it is another file: the model would be served with other features than it was trained on.
    """
    weights = {name: file for name in embed.backbones if (file := find_weights(name, embed))}
    for name, file in weights.items():
        if not embedded_with(embedded, name, file):
            raise MoascopeError(
                f"{file} is not the file that {embedded} was made with, so the model would be "
                "served with other features than it learns from. Run `dvc repro "
                "--single-item --force embed` and then `dvc repro`, or give the new file a name of "
                "its own."
            )
    return weights


def _identity(name: str) -> str:
    # A model file is what is in it, wherever it lies.
    return KERAS_FILE if name.endswith(KERAS_FILE) else name


def _embed_one(name: str, precision: str, turns: int, seen: str, plate: str, folder: Path,
               prepared: Path, weights: Path | None) -> None:
    own = PreparedPlate(prepared / plate)
    crop = own.crops().shape[-1]
    embed_plate(own, folder, _open_once(name, weights, precision, turns, crop, seen))


def open_backbones(embed: Embed, crop: int, weights: Mapping[str, Path]) -> None:
    """Open a model's backbones before they are wanted, for whoever asks first.

    Parameters
    ----------
    embed : Embed
    crop : int
        Side of the crops, pixels.
    weights : mapping
        As in `features_of_screen`.
    """
    for name in embed.backbones:
        if name != PROFILES:
            file = weights.get(name)
            _open_once(name, file, embed.precision, embed.turns, crop,
                       _digest_once(file, file and _stamp(file)))


# A model has few backbones, and a server needs all of them for every request.
@functools.lru_cache(maxsize=4)
def _open_once(name: str, weights: Path | None, precision: str, turns: int, crop: int,
               seen: str) -> Backbone:
    # Building and compiling a network takes seconds, and every plate of a screen wants the same.
    return open_backbone(name, weights, precision, turns, crop)


@functools.lru_cache(maxsize=8)
def _digest_once(file: Path | None, stamp: tuple[int, ...] | None) -> str:
    # A server asks again for every request, and weights may have 100 MB.
    return weights_digest(file)


def _stamp(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def features_of_screen(screen: Screen, prepare: Prepare, embed: Embed, work: Path | None = None,
                       weights: Mapping[str, Path] | None = None, jobs: int = 1,
                       on_disk: bool = False) -> FeatureTable:
    """Prepare and embed a screen that is not part of the project, as a model that predicts it does.

    Parameters
    ----------
    screen : Screen
    prepare, embed : Prepare, Embed
        The parameters with which the model was trained.
    work : Path, optional
        A folder for crops and features; a second call with the same folder resumes from them.
        Without it nothing is kept and features are not written to disk, which for a few sites
        would take most of the time.
    weights : mapping, optional
        Backbone -> its weights file, instead of `embed.weights`.
    jobs : int
        Number of processes.
    on_disk : bool
        Whether a table that is too large for memory may lie in the folder for temporary files;
        see `features.disk`. Features of images are kept on disk only with `work`.

    Returns
    -------
    FeatureTable
        Sites whose planes could not be read are left out and named in its `warnings`.

    Raises
    ------
    MoascopeError
        If no site could be read, or the screen lacks what the backbones need.
    """
    check_measured(embed, bool(screen.channels), screen.profiles is not None)
    if weights:
        embed = embed.model_copy(update={"weights": {k: str(v) for k, v in weights.items()}})
    with contextlib.ExitStack() as scratch:
        folder = work or Path(scratch.enter_context(
            tempfile.TemporaryDirectory(prefix="moascope-")))
        if work is None and PROFILES not in embed.backbones:
            return _features_of_images(screen, prepare, embed, folder)
        prepare_plates(screen, folder / "prepare", prepare, jobs)
        plates = prepared_plates(folder / "prepare")
        left_out = [sentence for plate in plates for sentence in plate.facts["left_out"]]
        profiles = screen.profiles if PROFILES in embed.backbones else None
        if profiles is not None:
            profiles = write_profile_plates(profiles, folder,
                                            screen.sites["Metadata_Plate"].unique())
        if work or (on_disk and profiles is not None
                    and is_large((len(screen.sites), len(profiles.features)))):
            embed_plates(folder / "prepare", folder / "embed", embed, jobs, profiles)
            # The table outlives the folder.
            table = load_features(folder / "embed",
                                  Path(tempfile.gettempdir()) if on_disk else None)
        else:
            table = _features_in_memory(plates, embed, profiles)
    if profiles is not None:
        table, empty = without_empty(table)
        left_out += empty
    return _with_sites(table, left_out)


def _with_sites(table: FeatureTable, left_out: Sequence[str]) -> FeatureTable:
    if not len(table.meta):
        raise MoascopeError(["No site of the screen could be read.", *left_out])
    return dataclasses.replace(table, warnings=tuple(left_out))


def _features_of_images(screen: Screen, prepare: Prepare, embed: Embed,
                        scratch: Path) -> FeatureTable:
    plates = list(prepare_in_memory(screen, scratch, prepare))
    tables = []
    # In the order in which `load_features` finds their folders.
    for name in sorted(embed.backbones, key=label_of):
        file = find_weights(name, embed)
        seen = _digest_once(file, file and _stamp(file))
        made = [plate_features(sites, channels, crops,
                               _open_once(name, file, embed.precision, embed.turns, crops.shape[-1],
                                          seen))
                for sites, channels, crops, _ in plates]
        tables.append(join_plates([(sites, features) for sites, features, _ in made],
                                  [names for _, _, names in made]))
    return _with_sites(join_backbones(tables),
                       [sentence for *_, left_out in plates for sentence in left_out])


def _features_in_memory(plates: Sequence[PreparedPlate], settings: Embed,
                        profiles: Profiles | None) -> FeatureTable:
    tables = []
    # In the order in which `load_features` finds their folders.
    for name in sorted(settings.backbones, key=label_of):
        file = find_weights(name, settings)
        seen = weights_digest(file)
        made = []
        if name == PROFILES and profiles is not None:
            made = ([profile_features(profiles, plate.name, plate) for plate in plates] or
                    [profile_features(profiles, plate) for plate in sorted(profiles.digests)])
        for plate in plates if name != PROFILES else ():
            crops = plate.crops()
            made.append(plate_features(
                plate.sites(), plate.channels, crops,
                _open_once(name, file, settings.precision, settings.turns, crops.shape[-1],
                           seen)))
        tables.append(join_plates([(sites, features) for sites, features, _ in made],
                                  [names for _, _, names in made]))
    return join_backbones(tables)
