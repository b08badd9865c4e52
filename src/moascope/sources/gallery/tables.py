"""Tables of the gallery and about it: on disk or behind an address, CSV or TSV, packed or not."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from moascope.addresses.cache import current_sum, open_copy
from moascope.addresses.names import is_address, shown
from moascope.errors import MoascopeError
from moascope.opening import open_file, read_up_to
from moascope.screen.description import images_folder
from moascope.text import cause, listing
from moascope.work.files import write_atomically

MOST_BYTES = 1 << 30
_MANY = 12


def kept(named: str, downloads: Path, setting: str) -> Path:
    """A table on disk: the file itself, or what an address has now, fetched where that is new.

    Parameters
    ----------
    named : str
        A path or an address.
    downloads : Path
        Tables of addresses are kept below it, unpacked.
    setting : str
        The parameter that names the table, for sentences.

    Raises
    ------
    MoascopeError
        Where it does not exist, or cannot be read.
    """
    if not is_address(named):
        path = images_folder(Path(), {"images": named})
        if not path.is_file():
            raise MoascopeError(f"{setting} is {named}, and there is no such file. Name the table "
                                "by its path or address.")
        return path
    try:
        total = current_sum(named)
    except FileNotFoundError:
        raise MoascopeError(f"{setting}: {shown(named)} does not exist. Download the table and "
                            f"name the file, or correct the address.") from None
    base = named.split("?")[0].rpartition("/")[2].removesuffix(".gz")
    # The sum names the folder, so that another version is another file.
    path = downloads / "tables" / total.sha256[:16] / base
    if not path.is_file():
        with open_copy(named) as file:
            content = read_up_to(file, MOST_BYTES + 1)
        try:
            content = _unpacked(content)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise MoascopeError(f"{shown(named)} cannot be read ({cause(error)}). Download it "
                                "anew, and name the file.") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def read_text(path: Path, wanted: Sequence[str], setting: str) -> pd.DataFrame:
    """Read a table of JUMP, of the Broad Institute or of the Drug Repurposing Hub.

    Lines in front of the header that begin with ! are left out, as in the Hub's files.

    Parameters
    ----------
    path : Path
        CSV or TSV, packed by gzip or not; UTF-8 or Latin 1.
    wanted : sequence of str
        Columns that it must have.
    setting : str
        The parameter that names the table, for sentences.

    Returns
    -------
    DataFrame of str
        All columns; blanks around values removed.

    Raises
    ------
    MoascopeError
    """
    try:
        with open_file(path) as file:
            content = _unpacked(read_up_to(file, MOST_BYTES + 1))
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        while text.startswith("!"):
            text = text.partition("\n")[2]
        header = text.partition("\n")[0]
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False,
                            sep="\t" if "\t" in header else ",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MoascopeError(f"{path} ({setting}) cannot be read as a table "
                            f"({cause(error)}).") from None
    lacking = [column for column in wanted if column not in table]
    if lacking:
        raise MoascopeError(f"{path} ({setting}) has no column {listing(lacking)}. Its columns are "
                            f"{listing(table.columns, _MANY)}.")
    return table.apply(lambda column: column.str.strip())


def sum_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpacked(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            content = read_up_to(file, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES / 2**30:,.0f} GiB")
    return content
