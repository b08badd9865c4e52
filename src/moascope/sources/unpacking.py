"""Pictures out of downloaded zip archives."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from moascope.errors import MoascopeError
from moascope.sources.download import cannot_write
from moascope.work.archives import member_chunks, opened_archive


def unpack(archive: Path, wanted: Mapping[str, str], out: Path, most_bytes: int) -> list[str]:
    """Take the wanted files out of a zip archive.

    Parameters
    ----------
    archive : Path
    wanted : mapping
        Name of a file in the archive, without its folders -> name that it gets below `out`. What
        is not wanted is not unpacked, so no name in the archive becomes a path.
    out : Path
        A folder; it appears only when it is complete.
    most_bytes : int
        Larger files are refused, by their stated size and by what is unpacked.

    Returns
    -------
    list of str
        Those of `wanted` that the archive does not have, sorted.

    Raises
    ------
    MoascopeError
        When it is not an archive, is damaged or encrypted, has two files for one name, would
        unpack to more than allowed, or the disk is full.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        return _unpack(archive, wanted, partial, out, most_bytes)
    except OSError as error:
        raise MoascopeError(cannot_write(out, error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(archive: Path, wanted: Mapping[str, str], partial: Path, out: Path,
            most_bytes: int) -> list[str]:
    partial.mkdir(parents=True)
    with opened_archive(archive) as (file, members):
        found: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = PurePosixPath(member.filename).name
            if name not in wanted:
                continue
            if name in found:
                raise MoascopeError(f"{archive.name} has '{name}' twice ({found[name].filename} "
                                    f"and {member.filename}), so it is not unpacked. Remove it and "
                                    "run the command again to download it again.")
            found[name] = member
        for name, member in found.items():
            target = partial / wanted[name]
            target.parent.mkdir(parents=True, exist_ok=True)
            _unpack_member(archive, file, member, target, most_bytes)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
    return sorted(set(wanted) - set(found))


def _unpack_member(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path,
                   most_bytes: int) -> None:
    with target.open("xb") as to:
        for chunk in member_chunks(archive, file, member, most_bytes):
            to.write(chunk)
