"""Passwords are never shown: the one scrubber of messages, parameters, logs and tracebacks."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
# Shorter ones would be found everywhere.
LEAST_LETTERS = 4
# Shorter ones are hidden as words of their own, not inside of others.
SURE = 6

_NAME = (r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?"
         r"|x-amz-(?:signature|credential))")
_ASSIGNED = re.compile(
    rf"(?i)((?<![a-z])[\w.%-]*{_NAME}[\"']?\s*(?:=|%3d|:)\s*)"
    r"(\"[^\"]*\"|'[^']*'|[^\s&;,'\"\\]+)")
_LOGIN = re.compile(r"(?i)([a-z][a-z0-9+.-]*:)?//[^\s'\"<>]*@")
_LOGIN_WITHOUT_SCHEME = re.compile(r"(?<![\w/.%+-])(?!mailto:)[\w.%+-]+:[^\s/'\"@]+@(?=[\w.-])")
_HEADER = re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer)\s+)?[^\s'\"]+")
_AWS = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_VARIABLE = re.compile(r"(?:^|_)(?:PG)?(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_KEY"
                       r"|ACCESS_KEY(?:_ID)?)$")
_OPTION = re.compile(rf"(?i)(?:^|[?&;\s,=])[^=&;?\s,]*(?:{_NAME}|(?<![a-z])pass)\s*=\s*"
                     r"(?:'([^']*)'|\"([^\"]*)\"|([^&;\s]*))")
_SCHEME = re.compile(r"^[a-zA-Z][\w+.-]*:/+|^/+")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def scrub(text: object, *addresses: str) -> str:
    """A text without the passwords in it.

    Parameters
    ----------
    text : object
    *addresses : str
        Addresses whose passwords are hidden wherever they occur.

    Notes
    -----
    Hidden are the passwords of this process's environment wherever they occur (those of variables
    such as `PGPASSWORD` and those inside addresses such as `MLFLOW_TRACKING_URI`), and whatever
    has the form of one: logins in addresses, `password=...`, keys of AWS, authorization headers.
    """
    text = str(text)
    for secret in _known(addresses):
        if len(secret) < SURE:
            text = re.sub(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
    text = _LOGIN.sub(_without_login, text)
    text = _LOGIN_WITHOUT_SCHEME.sub(f"{HIDDEN}@", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    return _AWS.sub(HIDDEN, text)


def holds_password(address: str) -> bool:
    """Whether the address of a database holds a password, in whichever spelling.

    Logins (with or without a scheme, percent-encoded), options of an address, and the key=value
    form that PostgreSQL's own library reads.
    """
    address = _decoded(address)
    return bool(_login(address) or any(True for _ in _OPTION.finditer(address)))


def address_shown(address: str) -> str:
    """The address of a database or server without user, password and options."""
    plain = _decoded(address) if holds_password(address) else address
    scheme, separator, rest = plain.partition("://")
    if not separator:
        scheme, rest = "", plain
    if separator or holds_password(address):
        rest = re.split(r"[?;]", rest.rpartition("@")[2])[0]
    return scrub(f"{scheme}{separator}{rest}")


def _decoded(address: str) -> str:
    address = unicodedata.normalize("NFKC", address.strip())
    while (plain := unquote(address)) != address:
        address = plain
    return address


def _login(address: str) -> str:
    """What stands before the last @, where that holds a password."""
    if _DRIVE.match(address):
        return ""
    login = _SCHEME.sub("", address).rpartition("@")[0]
    return login if ":" in login else ""


def _without_login(found: re.Match[str]) -> str:
    scheme = (found[1] or "").lower()
    login = found[0][len(scheme) + 2:-1]
    # A user's name alone is no secret; before a web server it may be a token.
    if ":" not in unquote(login) and scheme not in ("http:", "https:"):
        return found[0]
    return f"{found[1] or ''}//{HIDDEN}@"


def _known(addresses: Iterable[str]) -> list[str]:
    """Passwords of addresses and of this process's environment, as they may be printed.

    The longest come first.
    """
    found = {secret for address in addresses for secret in _passwords(address)}
    for name, value in os.environ.items():
        if _VARIABLE.search(name.upper()):
            found.add(value)
        if "@" in value or "=" in value:
            found.update(_passwords(value))
    forms = {form for secret in found for form in (
        secret, unquote(secret), unquote_plus(secret), quote(secret), quote(secret, safe=":"),
        quote(secret, safe=""),
        quote_plus(secret), repr(secret)[1:-1])}
    return sorted((form for form in forms if len(form.strip()) >= LEAST_LETTERS),
                  key=len, reverse=True)


def _passwords(address: str) -> Iterator[str]:
    for value in {address, _decoded(address)}:
        if "://" in value and " " not in value and (login := _login(value)):
            password = login.partition(":")[2]
            yield password
            # A password with an @ or a / in it is taken apart by whoever parses the address.
            yield from re.split(r"[:/@?#]", password)
        for option in _OPTION.finditer(value):
            yield option[1] or option[2] or option[3] or ""
