"""Zip archives from elsewhere, which are not trusted."""

from __future__ import annotations

import contextlib
import errno
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.text import counted, explained, listing

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
    with opened_archive(path):
        pass


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive does.

    Raises
    ------
    OSError
        Where it cannot be opened.
    """
    with open_file(path) as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def members_of(path: Path) -> list[str]:
    """Names of the files in a zip archive, with their folders.

    Raises
    ------
    MoascopeError
        As `check_archive`.
    """
    with opened_archive(path) as (_, members):
        return [member.filename for member in members]


def only_member(archive: Path, endings: tuple[str, ...], most_bytes: int) -> bytes:
    """The content of the one file of an archive that has one of the endings, in lower case.

    Raises
    ------
    MoascopeError
        When there is none or more than one, or it is larger than `most_bytes`.
    """
    with opened_archive(archive) as (file, members):
        # The archiver of macOS adds a shadow of every file.
        named = [member for member in members if member.filename.lower().endswith(endings)
                 and not member.filename.startswith("__MACOSX/")]
        if len(named) != 1:
            raise MoascopeError(
                f"{archive} must hold exactly one file that ends in {' or '.join(endings)}, but "
                f"holds {listing(member.filename for member in named or members) or 'nothing'}. "
                "Unpack it and give the file itself.")
        return b"".join(member_chunks(archive, file, named[0], most_bytes))


@contextlib.contextmanager
def opened_archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """An archive and the files that it names, checked as by `check_archive`."""
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
        raise MoascopeError(f"{path} is not a valid zip archive ({explained(error)}). Delete it "
                            "and get it again.") from None


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


def member_chunks(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo,
                  most_bytes: int) -> Iterator[bytes]:
    """The content of one file of an archive, in pieces, as far as it may unpack.

    Raises
    ------
    MoascopeError
        Where it is encrypted or damaged, or swells beyond `most_bytes` or beyond what it states.
    """
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
            f"{size:,} or more, more than moascope unpacks. Nothing was kept.")
