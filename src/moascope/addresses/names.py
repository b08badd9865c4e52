"""Addresses of files: which ones moascope reads, and how a sentence shows them."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from moascope.passwords import address_shown, holds_password
from moascope.text import listing, tidy

SCHEMES = ("s3", "gs", "https", "http")
"""http is read from this machine alone: nothing else protects what it sends."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FILE = re.compile(r"file:", re.IGNORECASE)
_DRIVE = re.compile(r"/[A-Za-z]:")
# Of a presigned address; `passwords` knows the names of all others.
_SIGNED = re.compile(r"[?&](?:x-(?:amz|goog)-|sig(?:nature)?=)", re.IGNORECASE)


def is_address(name: str) -> bool:
    """Whether a name is an address such as s3://bucket/image.tif, and not a path."""
    return "://" in name


def unreadable(address: str) -> str:
    """Why moascope does not read an address, as the rest of a sentence; empty where it does."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        # Half of the brackets of an IPv6 address.
        return "is not a valid address"
    if parts.scheme.lower() not in SCHEMES:
        return f"has a scheme that moascope does not read ({listing(f'{s}://' for s in SCHEMES)})"
    if holds_password(address) or _SIGNED.search(address):
        return ("holds a login or a signature, which would be written to tables and reports. Give "
                "credentials by the environment or a file of the store's own tools")
    if not host or not parts.path.strip("/"):
        return "names no file"
    if parts.scheme.lower() == "http" and host not in _LOOPBACK:
        return "is not protected on its way. Write https:// instead"
    return ""


def shown(address: str) -> str:
    """An address for a sentence: without login and options, and not longer than a line or two."""
    return tidy(address_shown(address), most=200)


def path_of_file_url(name: str) -> str:
    """The path of a file: URL; any other name as it is."""
    if not _FILE.match(name):
        return name
    rest = unquote(name[len("file:"):])
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path if host.lower() in ("", "localhost") else rest
    return rest[1:] if _DRIVE.match(rest) else rest
