"""Zip archives from elsewhere, which are not trusted."""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.sources.download import cannot_write
from moascope.text import cause, counted, listing

MOST_MEMBERS = 100_000
_MOST_RATIO = 200  # 16-bit pictures of cells shrink by 2 to 4
_CHUNK = 1 << 20


def check_archive(path: Path) -> None:
    """Check the table of contents of a zip archive; nothing is unpacked.

    Raises
    ------
    MoascopeError
        When it is not an archive, or contains paths outside it, links, or too many files.
    """
    with _opened(path):
        pass


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
    with _opened(archive) as (file, members):
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


def only_member(archive: Path, suffix: str, most_bytes: int) -> bytes:
    """The content of the one file of an archive that ends in `suffix`.

    Raises
    ------
    MoascopeError
        When there is none or more than one, or it is larger than `most_bytes`.
    """
    with _opened(archive) as (file, members):
        named = [member for member in members if member.filename.lower().endswith(suffix)]
        if len(named) != 1:
            raise MoascopeError(f"{archive.name} has {len(named)} files that end in {suffix} "
                                "instead of one.")
        return b"".join(_member_chunks(archive, file, named[0], most_bytes))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    with contextlib.ExitStack() as open_files:
        with _sentences(path):
            file = open_files.enter_context(zipfile.ZipFile(open_files.enter_context(
                open_file(path))))
            members = [member for member in file.infolist() if not member.is_dir()]
        _check_members(path, members)
        yield file, members


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn what zipfile and its decompressors raise on a damaged archive into a sentence."""
    try:
        yield
    except MoascopeError:
        raise
    except NotImplementedError as error:
        raise MoascopeError(f"{path} is compressed in a way that moascope does not read "
                            f"({error}).") from None
    except Exception as error:  # They raise anything: LZMAError, IndexError, struct.error, ...
        # Damaged bzip2 raises OSError too, but without an errno.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise MoascopeError(f"{path} is not a valid zip archive ({cause(error)}). Remove it and "
                            "run the command again to download it again.") from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_MEMBERS:
        raise MoascopeError(f"{path} names {counted(len(members), 'file')}, more than the "
                            f"{MOST_MEMBERS:,} that moascope unpacks.")
    outside = [member.filename for member in members if _leads_out(member.filename)]
    if outside:
        raise MoascopeError(f"{path} contains paths that point outside it "
                            f"({listing(outside, 3)}), as malicious archives do. Nothing was "
                            "unpacked.")
    links = [member.filename for member in members
             if stat.S_ISLNK(member.external_attr >> 16)]
    if links:
        raise MoascopeError(f"{path} contains links ({listing(links, 3)}), which moascope does "
                            "not unpack.")


def _leads_out(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or ".." in plain.split("/") or plain[1:2] == ":"


def _unpack_member(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path,
                   most_bytes: int) -> None:
    with target.open("xb") as to:
        for chunk in _member_chunks(archive, file, member, most_bytes):
            to.write(chunk)


def _member_chunks(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo,
                   most_bytes: int) -> Iterator[bytes]:
    if member.flag_bits & 1:
        raise MoascopeError(f"{archive.name}: {member.filename} is encrypted, so it cannot be "
                            "unpacked.")
    ratio = member.file_size / max(member.compress_size, 1)
    if member.file_size > most_bytes or (ratio > _MOST_RATIO and member.file_size > _CHUNK):
        raise MoascopeError(_swells(archive, member, member.file_size))
    got = 0
    with contextlib.ExitStack() as opened:
        with _sentences(archive):
            source = opened.enter_context(file.open(member))
        while True:
            with _sentences(archive):
                chunk = source.read(_CHUNK)
            if not chunk:
                return
            got += len(chunk)
            # The size in the table of contents may be wrong.
            if got > most_bytes or got > member.file_size:
                raise MoascopeError(_swells(archive, member, got))
            yield chunk


def _swells(archive: Path, member: zipfile.ZipInfo, size: int) -> str:
    return (f"{archive.name}: {member.filename} unpacks {member.compress_size:,} bytes to "
            f"{size:,} or more, more than any image of this screen. Nothing was kept.")
