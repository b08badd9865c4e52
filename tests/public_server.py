"""A web server on this machine that serves public screens as they are laid out, and misbehaves.

    with PublicServer(files={"/a/b.tif": b"..."}) as server:
        server.faults["/a/b.tif"] = ["status 503", "truncate 100"]
        server.url + "/a/b.tif"

Each fault is used up by one request, in order; then the file is served as it should be. What is in
`always` happens at every request.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import tifffile

HTML = b"<!DOCTYPE html><html><body>Down for maintenance</body></html>"
TYPES = {"html": "text/html", "tif": "image/tiff", "json": "application/json",
         "zip": "application/zip", "csv": "text/csv", "jpg": "image/jpeg"}


class PublicServer:
    """Files, and answers made by functions of the query, on a free port of 127.0.0.1."""

    def __init__(self, files: Mapping[str, bytes] | None = None,
                 answers: Mapping[str, Callable[[dict[str, list[str]]], bytes]] | None = None):
        self.files = dict(files or {})
        self.answers = dict(answers or {})
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.etags = True
        self.delay = 0.0
        self.requests: list[tuple[str, str]] = []
        self.times: list[float] = []
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def __enter__(self) -> PublicServer:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        # Clients that hang up in the middle are what these tests are about.
        self.server.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, ending: str = "") -> list[tuple[str, str]]:
        """The requests so far, path and Range, for paths with this ending."""
        return [one for one in self.requests if one[0].endswith(ending)]


def tiff(seed: int = 0, shape: tuple[int, int] = (48, 64), dtype: str = "uint16") -> bytes:
    """A small uncompressed picture of noise."""
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    tifffile.imwrite(buffer, values, metadata=None)
    return buffer.getvalue()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def as_json(content: object) -> bytes:
    return json.dumps(content).encode()


def _handler(server: PublicServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keeps the terminal of the tests clean."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            with server.lock:
                server.requests.append((self.path, self.headers.get("Range", "")))
                waiting = server.faults.get(parts.path)
                fault = waiting.pop(0) if waiting else server.always.get(parts.path, "")
                server.busy += 1
                server.most_busy = max(server.most_busy, server.busy)
            try:
                server.stopping.wait(server.delay)
                with contextlib.suppress(ConnectionError):
                    self.answer(parts.path, parse_qs(parts.query), fault)
            finally:
                with server.lock:
                    server.busy -= 1

        def answer(self, path: str, query: dict[str, list[str]], fault: str) -> None:
            kind, _, detail = fault.partition(" ")
            if kind == "status":
                status, _, wait = detail.partition(" after ")
                self.head(int(status), 0, {"Retry-After": wait} if wait else {})
            elif kind == "redirect":
                self.head(302, 0, {"Location": detail})
            elif kind == "hang":
                server.stopping.wait(30)
                self.close_connection = True
            elif kind == "reset":
                self.close_connection = True
            elif kind == "html":
                self.head(200, len(HTML), {"Content-Type": detail or "text/html"})
                self.wfile.write(HTML)
            elif path in server.answers:
                content = server.answers[path](query)
                self.head(200, len(content))
                self.wfile.write(content)
            elif path in server.files:
                self.file(path, server.files[path], kind, detail)
            else:
                self.head(404, 0)

        def file(self, path: str, content: bytes, kind: str, detail: str) -> None:
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            headers = {"Content-Type": TYPES.get(path.rpartition(".")[2], "text/plain")}
            if server.etags:
                headers |= {"ETag": tag, "Accept-Ranges": "bytes"}
            wanted = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            unchanged = self.headers.get("If-Range", tag) == tag
            start = int(wanted) if wanted and unchanged and kind != "ignore" else 0
            if kind == "shrink":
                content = content[:int(detail)]
            if start and start >= len(content):
                self.head(416, 0, {"Content-Range": f"bytes */{len(content)}"})
                return
            rest = content[start:]
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if kind == "unsized":
                headers["Connection"] = "close"
                self.head(200, None, headers)
                self.wfile.write(rest)
                self.close_connection = True
                return
            self.head(206 if start else 200, len(rest), headers)
            if kind == "truncate":
                self.wfile.write(rest[:int(detail)])
                self.close_connection = True
            elif kind == "trickle":
                for byte in rest:
                    if server.stopping.wait(0.05):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
            elif kind == "pause":
                self.wfile.write(rest[:int(detail)])
                self.wfile.flush()
                server.stopping.wait(30)
                self.close_connection = True
            else:
                self.wfile.write(rest)

        def head(self, status: int, length: int | None,
                 headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            if length is not None:
                self.send_header("Content-Length", str(length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

    return Handler
