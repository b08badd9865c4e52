"""The manifest of a screen: size and SHA-256 of every image file that its tables name.

For the folder of a Zarr array they cover all files in it; of an array behind an address, what its
store tells of them (`moascope.screen.remote_arrays`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from moascope.addresses.cache import Sum, current_sum
from moascope.addresses.names import is_address
from moascope.addresses.stores import TooLarge, Unavailable
from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.screen.frames import image_sum, open_image
from moascope.screen.limits import PlaneError
from moascope.screen.remote_arrays import array_sum_at, is_array_address
from moascope.screen.tables import Screen
from moascope.work.files import write_csv
from moascope.work.processes import default_jobs, progress

MANIFEST = "manifest.csv"


def image_files(screen: Screen) -> list[str]:
    """The distinct image files that the site table names, sorted."""
    names: set[str] = set()
    for channel in screen.channels:
        names.update(screen.sites[f"FileName_{channel}"].unique())
    return sorted(names - {""})


def make_manifest(screen: Screen, jobs: int | None = None,
                  known: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read every image file of a screen once, but for those that are known.

    Parameters
    ----------
    screen : Screen
    jobs : int, optional
        Threads.
    known : DataFrame, optional
        `FileName`, `Bytes`, `SHA256` and `Stamp` (of an address, its version) of files.

    Returns
    -------
    DataFrame
        One row per file, sorted: `FileName` as in the site table, `Bytes` (int) and `SHA256`
        (hexadecimal). A file that cannot be read has 0 bytes and an empty sum; validate
        reports it and quarantines its site.
    """
    names = image_files(screen)
    due = names if known is None else sorted(set(names) - set(known["FileName"]))
    # hashlib and reading both release the interpreter, so threads are enough.
    with (progress(len(due), "checksums") as advance,
          ThreadPoolExecutor(jobs or _threads(due)) as pool):
        sums = []
        try:
            for result in pool.map(lambda name: _checksum(screen.images, name), due):
                sums.append(result)
                advance()
        except Unavailable:
            # Else each of a million files would be tried, too.
            pool.shutdown(cancel_futures=True)
            raise
    manifest = pd.DataFrame({"FileName": pd.Series(due, dtype="str"),
                             "Bytes": pd.Series([found.bytes for found in sums], dtype="int64"),
                             "SHA256": pd.Series([found.sha256 for found in sums], dtype="str"),
                             _TAG: pd.Series([found.tag for found in sums], dtype="str")})
    if known is not None:
        # The stamp of a file of this machine is of no use on another.
        remote = known["FileName"].str.contains("://", regex=False)
        told = known.assign(**{_TAG: known["Stamp"].where(remote, "")})[list(manifest.columns)]
        manifest = pd.concat([manifest, told]).set_index("FileName").loc[names].reset_index()
    return manifest if any(map(is_address, names)) else manifest.drop(columns=_TAG)


def write_manifest(manifest: pd.DataFrame, folder: Path) -> None:
    """Write manifest.csv into a screen folder."""
    write_csv(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read manifest.csv of an acquired screen.

    Raises
    ------
    MoascopeError
        When it is missing or not a manifest.
    """
    import pyarrow as pa
    import pyarrow.csv

    path = folder / MANIFEST
    try:
        with open_file(path) as file:
            # By Arrow, which makes no object of each of millions of names.
            read = pyarrow.csv.read_csv(
                file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys([*_COLUMNS, _TAG], pa.large_string())))
        manifest = pd.DataFrame({name: pd.Series(read[name], dtype="str")
                                 for name in read.column_names}, copy=False)
    except (OSError, ValueError, KeyError):
        manifest = pd.DataFrame()
    if list(manifest.columns) not in (_COLUMNS, [*_COLUMNS, _TAG]):
        raise MoascopeError(f"{path} is missing or not a manifest. Run the acquire stage "
                            "(dvc repro acquire), which writes it.")
    if not manifest["Bytes"].str.fullmatch("[0-9]{1,18}").all():
        raise MoascopeError(f"{path} has a number of bytes that is not a whole number. Run the "
                            "acquire stage (dvc repro acquire), which writes it.")
    return manifest.astype({"Bytes": "int64"})


def checksums(manifest: pd.DataFrame, names: pd.Series) -> pd.Series:
    """Look up the SHA-256 of files by their names.

    Parameters
    ----------
    manifest : DataFrame
        `FileName`, `SHA256`.
    names : Series of str

    Returns
    -------
    Series of str
        With the index of `names`; NaN where the manifest does not name the file.
    """
    import pyarrow as pa
    from pyarrow import compute

    # Arrow looks names up in place; a dictionary or a merge would copy millions of them.
    at = compute.index_in(  # pyright: ignore[reportAttributeAccessIssue]
        pa.array(names, pa.large_string()),
        value_set=pa.array(manifest["FileName"], pa.large_string()))
    sums = manifest["SHA256"].array.take(at.fill_null(-1).to_numpy(), allow_fill=True)
    return pd.Series(sums, index=names.index)


_COLUMNS: Sequence[str] = ["FileName", "Bytes", "SHA256"]
_TAG = "ETag"
_CONNECTIONS = 16  # to stores; the network, and no processor, is what they wait for


def _threads(names: Sequence[str]) -> int:
    return _CONNECTIONS if any(map(is_address, names)) else default_jobs()


def _checksum(images: Path, name: str) -> Sum:
    try:
        if is_array_address(name):
            return array_sum_at(name)
        if is_address(name):
            return current_sum(name)
        with open_image(images / name) as image:
            return Sum(*image_sum(image), "")
    except (PlaneError, TooLarge, OSError, ValueError):
        return Sum(0, "", "")
