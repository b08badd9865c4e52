"""The local page on which a person decides what words cannot."""

from __future__ import annotations

import contextlib
import hashlib
import html
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pandas as pd

from moascope.annotation.compounds import (
    DECIDED,
    UNNAMED,
    persons_evidence,
    read_earlier,
    write_annotations,
)
from moascope.annotation.decide import Decision, read_term, split_terms
from moascope.annotation.pictures import View, channel_colours, find_views, render_view
from moascope.annotation.review import said
from moascope.annotation.run import Done
from moascope.errors import MoascopeError
from moascope.screen.columns import GPCR_ACTIONS
from moascope.screen.limits import PlaneError

HOST = "127.0.0.1"
_MAX_BODY = 2**16
_ACTIONS = tuple(sorted(action for action in GPCR_ACTIONS if action))
_ABOUT = ("Metadata_InChIKey", "Metadata_SMILES", "Metadata_Target")


@dataclass
class Review:
    """What the page shows, and what was said since it was opened.

    The table on disk is the truth: every word reads it again, changes one row and writes it whole,
    so that neither a kill nor a second tab loses a word.

    Attributes
    ----------
    out : Path
    curator : str
    questions : dict of str to Series
        Rows of the review list by compound, in their order.
    decisions : dict of str to Decision
        The machine's, by compound.
    """

    out: Path
    curator: str
    questions: dict[str, pd.Series]
    decisions: dict[str, Decision]
    images_are: str
    screen: Any = None
    said_before: frozenset[str] = frozenset()
    touched: set[str] = field(default_factory=set)
    history: list[tuple[str, str, tuple[str, ...], str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.views = lru_cache(maxsize=256)(self._find_views)
        self.picture = lru_cache(maxsize=128)(self._render)

    def table(self) -> pd.DataFrame:
        """The annotations as they are on disk, by compound."""
        table = read_earlier(self.out)
        if table is None:
            raise MoascopeError(f"{self.out} is gone. Run moascope annotate again.")
        return table.set_index("Metadata_Compound", drop=False)

    def waiting(self, table: pd.DataFrame) -> list[str]:
        """Compounds of the review list that nobody has decided yet."""
        return [name for name in self.questions if not self.is_decided(name, table)]

    def is_decided(self, name: str, table: pd.DataFrame) -> bool:
        """Whether a person has decided; a person's word of an earlier run is asked about anew."""
        return name in self.touched or (
            name in table.index and bool(table.loc[name, "curator"])
            and name not in self.said_before)

    def decide(self, name: str, gpcr: str, actions: list[str], seen: str, tab: str) -> str:
        """Write a person's word; returns a sentence of refusal, or ""."""
        with self.lock, _between_processes(self.out):
            table = self.table()
            if name not in table.index:
                return f"{name} is not in {self.out.name} any more."
            before = tuple(table.loc[name, DECIDED])
            if state(before) != seen:
                return (f"{name} was decided meanwhile: {said(before[0], before[1])}"
                        + (f", by {before[3]}" if before[3] else "")
                        + ". Nothing was written; look again.")
            after = (gpcr, "|".join(sorted(actions)) if gpcr == "yes" else "",
                     persons_evidence(self.decisions[name].evidence), self.curator)
            self._write(table, name, after)
            self.history.append((tab, name, before, state(after)))
            self.touched.add(name)
        return ""

    def undo(self, tab: str) -> tuple[str, str]:
        """Take a tab's last word back; returns the compound, and a sentence of refusal or ""."""
        with self.lock, _between_processes(self.out):
            index = next((index for index in range(len(self.history) - 1, -1, -1)
                          if self.history[index][0] == tab), None)
            if index is None:
                return "", "There is nothing to take back in this tab."
            _, name, before, expected = self.history[index]
            table = self.table()
            if name not in table.index or state(tuple(table.loc[name, DECIDED])) != expected:
                del self.history[index]
                return name, f"{name} was decided again meanwhile; that word was kept."
            self._write(table, name, before)
            del self.history[index]
            if not any(entry[1] == name for entry in self.history):
                self.touched.discard(name)
        return name, ""

    def _write(self, table: pd.DataFrame, name: str, values: tuple[str, ...]) -> None:
        table.loc[name, DECIDED] = list(values)
        write_annotations(self.out, table)

    def _find_views(self, name: str) -> tuple[View, ...]:
        return tuple(find_views(self.screen, name)) if self.screen is not None else ()

    def _render(self, view: View, treated: bool, channel: str) -> bytes:
        return render_view(self.screen, view, treated, channel)


def serve_review(done: Done, out: Path, curator: str, port: int = 0) -> None:
    """Show the review list in a browser until Ctrl-C.

    Parameters
    ----------
    done : Done
        As from `annotate_files`.
    out : Path
        The annotations that it wrote; every word goes there at once.
    curator : str
        Who decides.
    port : int
        On 127.0.0.1; 0 takes any free one.
    """
    if done.review.empty:
        print("Nothing to review: no page is opened.")
        return
    server = make_server(done, out, curator, port)
    try:
        print(f"Decide at {server.address}\nEvery word is written to {out} at once, as said by "
              f"{server.review.curator}. Ctrl-C ends.", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:
        print(f"\nStopped. {len(server.review.touched):,} decided here; all are in {out}.")
    finally:
        server.server_close()


class Server(ThreadingHTTPServer):
    """A server for one review, on this machine only.

    Attributes
    ----------
    address : str
        Where the page is, with the key without which nothing is shown: other people with an
        account on this machine reach the port too.
    """

    daemon_threads = True

    def __init__(self, review: Review, port: int):
        super().__init__((HOST, port), _Handler)
        self.review = review
        self.key = secrets.token_urlsafe(24)
        self.token = secrets.token_urlsafe(24)
        self.origins = {f"http://{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.address = f"http://{HOST}:{self.server_port}/?key={self.key}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that hangs up before a picture is there is no error.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def make_server(done: Done, out: Path, curator: str, port: int = 0) -> Server:
    """A server that is bound but not yet serving.

    Raises
    ------
    MoascopeError
        Where the port is taken.
    """
    table = done.annotated.table
    questions = {row["Metadata_Compound"]: row for _, row in done.review.iterrows()}
    review = Review(
        out, curator.strip() or UNNAMED, questions,
        dict(zip(table["Metadata_Compound"], done.annotated.decisions, strict=True)),
        done.images_are, done.screen,
        frozenset(table.loc[table["curator"] != "", "Metadata_Compound"]))
    try:
        return Server(review, port)
    except OSError as error:
        raise MoascopeError(f"Port {port} of {HOST} cannot be used ({error.strerror}). Name "
                            "another with --port, or leave it out.") from None


def state(values: tuple[str, ...]) -> str:
    """A fingerprint of what a row says, to see whether it was changed meanwhile."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _between_processes(out: Path) -> Iterator[None]:
    """One process at a time reads and writes a table; where the system has no flock, one server."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"moascope-annotate-{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Handler(BaseHTTPRequestHandler):
    """Pages, pictures and words of one review."""

    protocol_version = "HTTP/1.1"
    server_version = "moascope"
    sys_version = ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = _fields(url.query)
        if not self._is_ours():
            return
        if url.path == "/" and _same(query.get("key", ""), self.server.key):
            self._send(HTTPStatus.SEE_OTHER, b"", headers={
                "Location": "/",
                "Set-Cookie": f"{self._cookie_name()}={self.server.key}; HttpOnly; "
                              "SameSite=Strict; Path=/"})
        elif url.path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, b"")
        elif not self._has_key():
            self._refuse(HTTPStatus.FORBIDDEN, "Open the address that moascope printed in the "
                                               "terminal, with its key.")
        elif url.path == "/":
            self._page(query)
        elif url.path == "/picture":
            self._picture(query)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:
        # What is left unread would be taken for the next request on this connection.
        self.close_connection = True
        if not self._is_ours():
            return
        if not self._has_key():
            self._refuse(HTTPStatus.FORBIDDEN, "Open the address that moascope printed in the "
                                               "terminal, with its key.")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is no form of this page.")
            return
        text = self.rfile.read(int(length)).decode(errors="replace")
        form = _fields(text)
        origin = self.headers.get("Origin")
        if (not _same(form.get("token", ""), self.server.token)
                or (origin is not None and origin not in self.server.origins)
                or self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"):
            self._refuse(HTTPStatus.FORBIDDEN, "This form came from another page. Reload the page "
                                               "and decide again.")
            return
        path = urlsplit(self.path).path
        try:
            if path == "/decide":
                self._decide(form, parse_qs(text).get("action", []))
            elif path == "/undo":
                name, refusal = self.server.review.undo(form.get("tab", ""))
                self._go({"compound": name, "tab": form.get("tab", ""), "note": refusal
                          or f"Took back what was said of {name}."})
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")
        except MoascopeError as error:
            self._refuse(HTTPStatus.CONFLICT, error.problems[0])
        except OSError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR,
                         f"{self.server.review.out} cannot be written: {error.strerror}.")

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal shows the address only."""

    def _is_ours(self) -> bool:
        """Refuse names that another site made lead here (DNS rebinding)."""
        if f"http://{self.headers.get('Host', '')}" in self.server.origins:
            return True
        self.close_connection = True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "This server answers to 127.0.0.1 only.")
        return False

    def _cookie_name(self) -> str:
        return f"moascope_{self.server.server_port}"

    def _has_key(self) -> bool:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie_name())
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self.server.key)

    def _decide(self, form: Mapping[str, str], actions: list[str]) -> None:
        review = self.server.review
        name, gpcr, tab = form.get("compound", ""), form.get("gpcr", ""), form.get("tab", "")
        if (gpcr not in ("yes", "no", "unknown") or not set(actions) <= set(_ACTIONS)
                or name not in review.decisions):
            self._refuse(HTTPStatus.BAD_REQUEST, "That is no decision of this page.")
            return
        refusal = review.decide(name, gpcr, actions, form.get("seen", ""), tab)
        if refusal:
            self._go({"compound": name, "tab": tab, "note": refusal, "refused": "1"})
            return
        waiting = review.waiting(review.table())
        order = list(review.questions)
        later = order[order.index(name) + 1:] if name in order else order
        following = next((other for other in later if other in set(waiting)),
                         waiting[0] if waiting else "")
        action = "|".join(sorted(actions)) if gpcr == "yes" else ""
        self._go({"compound": following, "tab": tab, "channel": form.get("channel", ""),
                  "note": f"{name}: {said(gpcr, action)}. Written."})

    def _page(self, query: Mapping[str, str]) -> None:
        review = self.server.review
        try:
            page = render_page(review, query, self.server.token, nonce := secrets.token_urlsafe(16))
        except MoascopeError as error:
            self._refuse(HTTPStatus.CONFLICT, error.problems[0])
            return
        self._send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", nonce=nonce)

    def _picture(self, query: Mapping[str, str]) -> None:
        review = self.server.review
        views = review.views(query.get("compound", ""))
        number = query.get("view", "")
        if not number.isdecimal() or int(number) >= len(views):
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such picture.")
            return
        view = views[int(number)]
        treated = query.get("side") != "control"
        if not treated and view.untreated < 0:
            self._refuse(HTTPStatus.NOT_FOUND, "This plate has no negative control.")
            return
        try:
            picture = review.picture(view, treated, query.get("channel", ""))
        except PlaneError as error:
            self._send(HTTPStatus.OK, _sentence_as_picture(error.problems[0]), "image/svg+xml")
            return
        self._send(HTTPStatus.OK, picture, "image/png", cache=True)

    def _go(self, query: Mapping[str, str]) -> None:
        kept = {name: value for name, value in query.items() if value}
        self._send(HTTPStatus.SEE_OTHER, b"", headers={"Location": "/?" + urlencode(kept)})

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, (sentence + "\n").encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", nonce: str = "",
              cache: bool = False, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        inline = f"'nonce-{nonce}'" if nonce else "'none'"
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"default-src 'none'; img-src 'self'; style-src {inline}; "
                                       f"script-src {inline}; form-action 'self'; "
                                       "base-uri 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "private, max-age=600" if cache else "no-store",
            **({"Connection": "close"} if self.close_connection else {}),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def render_page(review: Review, query: Mapping[str, str], token: str, nonce: str) -> str:
    """The page of one compound.

    Parameters
    ----------
    review : Review
    query : mapping
        `compound` (the first that waits, where absent), `tab`, `note`, `refused`, `channel`.
    token : str
        Goes into the forms, and must come back with them.
    nonce : str
        Of the page's own style and script.
    """
    from jinja2 import Environment

    table = review.table()
    waiting = review.waiting(table)
    name = query.get("compound") or (waiting[0] if waiting else "")
    note, refused = query.get("note", ""), bool(query.get("refused"))
    if name and (name not in table.index or name not in review.decisions):
        note, refused, name = f"There is no compound {name} in {review.out.name}.", True, ""
    order = list(review.questions)
    place = order.index(name) if name in review.questions else None
    shown: dict[str, Any] = {}
    if name:
        row = table.loc[name]
        readings = [read_term(term) for term in split_terms(row["Metadata_MoA"])]
        actions = set(row["gpcr_action"].split("|")) - {""} or {
            action for reading in readings if reading.says in ("yes", "unclear")
            for action in reading.actions}
        views = review.views(name)
        channels = list(dict.fromkeys(channel for view in views for channel in view.channels))
        shown = {
            "row": row, "readings": readings, "actions": actions, "views": views,
            "channels": channels, "seen": state(tuple(row[DECIDED])),
            "colours": dict(zip(channels, channel_colours(channels), strict=True)),
            "about": {column.removeprefix("Metadata_"): row[column] for column in _ABOUT
                      if row.get(column)},
            "genes": row["evidence"].partition(". genes: ")[2],
            "question": review.questions[name]["question"] if place is not None else "",
            "images": int(review.questions[name]["images"]) if place is not None else None,
            "said": said(row["gpcr"], row["gpcr_action"]),
        }
    channel = query.get("channel", "")
    text = files("moascope.annotation").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["query"] = lambda fields: "?" + urlencode(
        {key: value for key, value in fields.items() if value not in ("", None)})
    return environment.from_string(text).render(
        **shown, name=name, note=note, refused=refused, token=token, nonce=nonce,
        tab=query.get("tab") or secrets.token_hex(4), curator=review.curator,
        out=review.out, order=order, place=place, waiting=set(waiting),
        decided=len(order) - len(waiting), images_are=review.images_are,
        previous=order[place - 1] if place else "",
        following=order[place + 1] if place is not None and place + 1 < len(order) else "",
        channel=channel if channel in shown.get("channels", ()) else "",
        verdicts=table["gpcr"].to_dict(), has_screen=review.screen is not None,
        compounds=list(table.index))


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


def _fields(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text).items()}


def _sentence_as_picture(sentence: str) -> bytes:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240"><rect width="640" '
            f'height="240" fill="#222"/><foreignObject x="20" y="20" width="600" height="200">'
            f'<p xmlns="http://www.w3.org/1999/xhtml" style="color:#eee;font:20px sans-serif">'
            f'{html.escape(sentence)}</p></foreignObject></svg>').encode()
