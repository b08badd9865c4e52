"""What reading image files gave, kept so that files that did not change are not opened again.

It decides no result: what is not kept, or may be out of date, is read again.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from moascope.addresses.names import is_address
from moascope.addresses.stores import version_of
from moascope.screen.columns import SITE
from moascope.screen.limits import PlaneError
from moascope.screen.remote_arrays import array_sum_at, is_array_address

FOLDER = ".readings"
"""Beside the acquired screen; it may be removed at any time."""

PLANE = [*SITE, "Channel", "FileName", "Frame"]
OF_FILE = ["Bytes", "SHA256", "Stamp"]
"""Columns that a plane has from its file."""

_THREADS = 16  # that ask for the state of files: what they wait for is a disk or a network
# Two changes of a file between two ticks of its disk's clock have the same time, in nanoseconds.
_TICK, _COARSE_TICK = 20_000_000, 2_000_000_000


def stamp_of(images: Path, name: str) -> str:
    """By what a file is taken for unchanged, without opening it.

    Parameters
    ----------
    images : Path
        The folder that names start from.
    name : str
        A path or an address.

    Returns
    -------
    str
        Size, time and inode, as DVC has it; of an array, over all its files; of an address, the
        version that its store tells. Empty where the file is missing.

    Raises
    ------
    moascope.addresses.stores.Unavailable
        Where the store of an address cannot be used.
    """
    try:
        if is_array_address(name):
            return array_sum_at(name).tag
        if is_address(name):
            return version_of(name).tag
        path = images / name
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return _array_stamp(path)
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    except (OSError, PlaneError, ValueError):
        return ""


def is_settled(stamp: str, since: int) -> bool:
    """Whether a local file that has a stamp cannot change any more without getting another one.

    Parameters
    ----------
    stamp : str
        From `stamp_of`.
    since : int
        When the file was opened, in nanoseconds since 1970.
    """
    changed = int(stamp.split()[1])
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return changed < since - tick


def stamps_of(images: Path, names: Sequence[str]) -> list[str]:
    """As `stamp_of`, of many files at once."""
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(pool.map(lambda name: stamp_of(images, name), names))
        except BaseException:
            # Else each of a million files would be tried, too.
            pool.shutdown(cancel_futures=True)
            raise


def read_readings(folder: Path, code: str, plate: str) -> pd.DataFrame:
    """What is kept of a plate.

    Parameters
    ----------
    folder : Path
        `FOLDER` of a screen.
    code : str
        Digest of the code that read: another one's readings are not used.
    plate : str

    Returns
    -------
    DataFrame
        One row per plane: `PLANE`, `OF_FILE` and facts. Empty where nothing is kept.
    """
    try:
        return pd.read_parquet(_path(folder, code, plate))
    except (OSError, ValueError):
        return pd.DataFrame({column: pd.Series(dtype="str") for column in [*PLANE, *OF_FILE]})


def write_readings(folder: Path, code: str, plate: str, readings: pd.DataFrame) -> None:
    """Keep what reading a plate gave, in place of what is kept of it."""
    path = _path(folder, code, plate)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        readings.to_parquet(partial, index=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def forget_readings(folder: Path, code: str, plates: Collection[str]) -> None:
    """Remove what is kept of other plates and by other code, and what a kill left half written."""
    own = _path(folder, code, "").parent
    own.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    for other in own.parent.iterdir():
        if other != own:
            shutil.rmtree(other)
    kept = {_path(folder, code, plate) for plate in plates}
    for path in own.iterdir():
        if path not in kept:
            path.unlink()


def _path(folder: Path, code: str, plate: str) -> Path:
    return folder / "planes" / code[:32] / f"{plate}.parquet"


def _array_stamp(path: Path) -> str:
    from moascope.screen.arrays import array_files

    total, size, newest = hashlib.sha256(), 0, 0
    for file in array_files(path):
        status = file.lstat()
        total.update(f"{file.relative_to(path).as_posix()}\0{status.st_size} "
                     f"{status.st_mtime_ns} {status.st_ino}\0".encode())
        size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
    return f"{size} {newest} {total.hexdigest()}"
