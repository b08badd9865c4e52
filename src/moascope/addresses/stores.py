"""Files behind addresses, fetched whole by fsspec: tried again after passing errors."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import errno
import functools
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from moascope.addresses.names import shown, unreadable
from moascope.errors import MoascopeError
from moascope.passwords import scrub
from moascope.text import counted, tidy

ATTEMPTS = 6
FIRST_WAIT = 0.5  # seconds; doubles from one attempt to the next, with a jitter of half of it
LONGEST_WAIT = 20.0
TIMEOUT = 30.0  # seconds without a byte
MOST_BYTES = 2**32
"""Largest file that is fetched."""

_PIECE = 2**20  # bytes read at once
_MD5 = re.compile(r"[0-9a-f]{32}")
# Whoever keeps keys of AWS keeps them in one of these.
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
             "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_REFUSED = (401, 403)
_ABSENT = (404, 410)
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
# Writing the file failed, and not reading it.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

T = TypeVar("T")


class Unavailable(MoascopeError):
    """A store that cannot be used, whatever file is asked for."""


class TooLarge(MoascopeError):
    """A file that is larger than what is fetched."""


@dataclass(frozen=True)
class Version:
    """What a store says of a file without sending it.

    Attributes
    ----------
    tag : str
        Changes when the file does: its ETag, else its date; empty where the store tells neither.
    bytes : int
        -1 where the store does not tell.
    md5 : str
        In hexadecimal; empty where the store does not tell.
    """

    tag: str
    bytes: int = -1
    md5: str = ""


def version_of(address: str) -> Version:
    """Ask a store for the version of a file.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    Unavailable
        Where the store cannot be used.
    """
    return persistently(address, lambda: _ask(address))


def fetch(address: str, path: Path) -> tuple[Version, str]:
    """Fetch a file to a path, whole and in one version.

    Returns
    -------
    Version
    str
        SHA-256 of what was fetched, in hexadecimal.

    Raises
    ------
    FileNotFoundError, TooLarge, Unavailable
    OSError
        Where `path` cannot be written.
    """
    return persistently(address, lambda: _fetch_once(address, path))


def _fetch_once(address: str, path: Path) -> tuple[Version, str]:
    version = _ask(address)
    _refuse_large(address, version.bytes)
    system, name = open_system(address)
    system.get_file(name, str(path), callback=_most_bytes()(address))
    total, check = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
            check.update(piece)
        size, md5 = file.tell(), check.hexdigest()
    if version.bytes not in (-1, size):
        raise _Passing(f"{size:,} of {version.bytes:,} bytes came")
    if version.md5 and version.md5 != md5 and not _is_encrypted(system, name):
        raise _Passing("what came is not what the store announced")
    # The file may have been replaced while it was sent.
    if version.md5 != md5 and _ask(address) != version:
        raise _Passing("it changed while it was sent")
    return Version(version.tag, size, md5), total.hexdigest()


def _ask(address: str) -> Version:
    system, name = open_system(address)
    # Listings of earlier questions may be out of date.
    system.invalidate_cache()
    found = system.info(name)
    if found.get("type") == "directory":
        raise FileNotFoundError(address)
    return told_version(address, found)


def told_version(address: str, info: Mapping[str, Any]) -> Version:
    """The version of a file in what fsspec says of it."""
    found = {str(key).lower(): value for key, value in info.items()}
    tag = str(found.get("etag") or found.get("last-modified") or found.get("updated") or "")
    plain = tag.strip('"').lower()
    md5 = plain if _MD5.fullmatch(plain) and address.startswith("s3:") else ""
    if found.get("md5hash"):
        md5 = base64.b64decode(found["md5hash"]).hex()
    size = found.get("size")
    return Version(tag.strip('"'), -1 if size is None else int(size), md5)


def _is_encrypted(system: Any, name: str) -> bool:
    """Whether S3 encrypts a file by a key of KMS or of its owner: its ETag is then not an MD5.

    Source: the S3 API reference, "Object", ETag.
    """
    if not hasattr(system, "call_s3"):
        return False
    bucket, key, _ = system.split_path(name)
    said = system.call_s3("head_object", Bucket=bucket, Key=key)
    return "SSECustomerAlgorithm" in said or said.get("ServerSideEncryption", "AES256") != "AES256"


def _refuse_large(address: str, size: int) -> None:
    if size > MOST_BYTES:
        raise TooLarge(f"{shown(address)} is larger than the {MOST_BYTES / 2**30:,.0f} GiB that "
                       "moascope fetches at once. Save each field of view as a file of its own.")


@functools.cache
def _most_bytes() -> Callable[[str], Any]:
    from fsspec.callbacks import Callback

    class MostBytes(Callback):
        """Stops a server that sends more than it said."""

        def __init__(self, address: str):
            super().__init__()
            self.address, self.got = address, 0

        def relative_update(self, inc: int = 1) -> None:
            self.got += inc
            _refuse_large(self.address, self.got)

    return MostBytes


def open_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the file's name in it; fsspec keeps one a process."""
    import fsspec

    if why := unreadable(address):
        raise Unavailable(f"{shown(address)} {why}.")
    scheme = address.partition(":")[0].lower()
    try:
        if scheme == "gs":
            # What fsspec would take asks over gRPC what kind of bucket it is: minutes where that is
            # blocked.
            from gcsfs.core import GCSFileSystem

            system = GCSFileSystem(**_options(scheme))
        else:
            system = fsspec.filesystem(scheme, **_options(scheme))
    except ImportError:
        extra = {"s3": "s3", "gs": "gcs"}.get(scheme, "s3")
        raise Unavailable(f"{shown(address)} needs a package that is not installed. Install it "
                          f"with: pip install 'moascope[{extra}]'.") from None
    if scheme == "s3":
        # Attempts are counted here, and not at three places at once.
        system.retries = 1
    return system, address if scheme in ("http", "https") else address.partition("://")[2]


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        # botocore knows these variables; named here, they tell file systems of other stores apart.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return {"anon": is_anonymous(), "endpoint_url": endpoint, "use_listings_cache": False,
                "config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": TIMEOUT,
                                  "read_timeout": TIMEOUT, "max_pool_connections": 32}}
    if scheme == "gs":
        known = (os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
                 or Path("~/.config/gcloud/application_default_credentials.json")
                 .expanduser().exists())
        return {"token": "google_default" if known else "anon", "use_listings_cache": False}
    import aiohttp

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_unsafe_redirect)
    return {"use_listings_cache": False, "skip_instance_cache": False, "client_kwargs": {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT),
        "trust_env": True, "trace_configs": [tracing]}}


def is_anonymous() -> bool:
    """Whether this process has no keys for S3, so that requests are not signed."""
    if any(os.environ.get(name) for name in _AWS_KEYS):
        return False
    files = [os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
             os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")]
    texts = []
    for file in files:
        with contextlib.suppress(OSError):
            texts.append(Path(file).expanduser().read_text(errors="replace"))
    return not re.search(r"(?m)^\s*(?:aws_access_key_id|credential_process|sso_|role_arn|"
                         r"web_identity_token_file)", "\n".join(texts))


async def _refuse_unsafe_redirect(session: Any, context: Any, said: Any) -> None:
    from urllib.parse import urljoin

    target = urljoin(str(said.url), said.response.headers.get("Location", ""))
    if why := unreadable(re.sub(r"\?.*", "", target)):
        raise Unavailable(f"{shown(str(said.url))} redirects to {shown(target)}, which {why}.")


class _Passing(Exception):
    """Worth another attempt."""


def persistently(address: str, act: Callable[[], T]) -> T:
    """Call a function, again after errors that pass; others are raised in our words."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _quietly():
                return act()
        except MoascopeError:
            raise
        except Exception as error:
            cause = _judge(address, error)
            if attempt == ATTEMPTS:
                raise Unavailable(
                    f"{shown(address)} cannot be fetched; {counted(attempt, 'attempt')} failed, "
                    f"the last one because of {cause}. Check the network and the store, and run "
                    "it again: what was fetched is kept.") from None
        wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
        time.sleep(wait * random.uniform(0.5, 1.5))
    raise AssertionError


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Libraries warn and log about what is told here in one sentence."""
    import logging

    loggers = [logging.getLogger(name) for name in ("s3fs", "gcsfs", "fsspec", "aiobotocore",
                                                    "botocore", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _judge(address: str, error: BaseException) -> str:
    """The cause of a passing error; a lasting one is raised in our words."""
    chain, inner = [], error
    while inner is not None and inner not in chain:
        chain.append(inner)
        inner = inner.__cause__ or inner.__context__
    code, status = "", 0
    for one in chain:
        said = getattr(one, "response", None)
        if isinstance(said, dict):
            code = code or str(said.get("Error", {}).get("Code", ""))
            head = said.get("ResponseMetadata", {})
            status = status or int(head.get("HTTPStatusCode", 0))
            # The answer to HEAD has no body that would say so.
            if status == 403 and _is_skewed(head.get("HTTPHeaders", {}).get("date", "")):
                code = "RequestTimeTooSkewed"
        # aiohttp's and gcsfs's; other errors have numbers of other kinds.
        if not status and type(one).__name__ in ("ClientResponseError", "HttpError"):
            known = str(getattr(one, "status", None) or getattr(one, "code", None))
            status = int(known) if known.isdecimal() else 0
        # gcsfs's, without a number.
        if not status and type(one) is OSError and str(one).startswith("Forbidden: "):
            status = 403
    where = shown(address)
    if code == "RequestTimeTooSkewed":
        raise Unavailable(f"{where}: the store refuses requests of this machine, because its clock "
                          "is wrong by more than a quarter of an hour. Set the clock.") from None
    if code in ("SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError"):
        return f"{code} (status {status})"
    if status in _REFUSED or (not status and isinstance(error, PermissionError)):
        raise Unavailable(_refusal(address, code)) from None
    names = {type(one).__name__ for one in chain}
    if names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound",
                "TokenRetrievalError", "RefreshError", "DefaultCredentialsError"}:
        raise Unavailable(f"{where}: the credentials of this machine cannot be used "
                          f"({_said(chain[-1])}). Correct them, or remove them for a public "
                          "store.") from None
    if status in _ABSENT or (not status and isinstance(error, FileNotFoundError)
                             and len(chain) == 1):
        raise FileNotFoundError(address) from None
    local = next((one for one in chain if isinstance(one, OSError) and one.errno in _OF_DISK), None)
    if local is not None:
        raise local
    if status and status not in _PASSING:
        raise Unavailable(f"{where}: the store answers with status {status}"
                          + (f" ({code})" if code else "")
                          + ". Open the address with the store's own tools.") from None
    if status:
        return f"status {status}"
    return _said(chain[0] if isinstance(error, _Passing) else chain[-1])


def _is_skewed(date: str) -> bool:
    """Whether the clock of this machine differs by more than S3 allows from that of the store."""
    try:
        there = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return False
    return abs(time.time() - there) > 900



def _refusal(address: str, code: str) -> str:
    because = f" ({code})" if code and not code.isdecimal() else ""
    if not address.startswith("s3:"):
        return (f"{shown(address)}: the store refuses access{because}. Give credentials for it by "
                "the environment, or check the address.")
    if is_anonymous():
        return (f"{shown(address)}: the store refuses anonymous access{because}. Give keys by "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; many stores also "
                "answer so where the object does not exist.")
    return (f"{shown(address)}: the store refuses the keys of this machine{because}. Correct them, "
            "or remove AWS_ACCESS_KEY_ID and AWS_PROFILE to read a public bucket.")


def _said(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return tidy(scrub(words.splitlines()[0] if words else ""), most=150)
