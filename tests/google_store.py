"""The part of Google Cloud Storage's JSON API that reading needs, on this machine.

    with google_store() as store:
        store.files["bucket/plates/a.tif"] = b"..."
        store.faults["plates/a.tif"] = [503]

Each fault is used up by one download of that object.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Store:
    """What the server holds, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int]] = {}
        self.requests: list[str] = []
        self.url = ""

    def about(self, bucket: str, name: str) -> dict[str, Any]:
        """The resource of an object."""
        content = self.files[f"{bucket}/{name}"]
        md5 = hashlib.md5(content)
        return {"kind": "storage#object", "bucket": bucket, "name": name,
                "size": str(len(content)), "md5Hash": base64.b64encode(md5.digest()).decode(),
                "etag": md5.hexdigest()[:12], "generation": "1", "contentType": "image/tiff",
                "timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z"}

    def listed(self, bucket: str, prefix: str, delimiter: str) -> dict[str, Any]:
        """Objects below a prefix, and folders where there is a delimiter."""
        items, folders = [], set()
        for key in sorted(self.files):
            name = key.removeprefix(f"{bucket}/")
            if key == name or not name.startswith(prefix):
                continue
            head, found, _ = name[len(prefix):].partition(delimiter or "\0")
            if found:
                folders.add(prefix + head + delimiter)
            else:
                items.append(self.about(bucket, name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}


@contextlib.contextmanager
def google_store() -> Iterator[Store]:
    """Start the server on a free port of 127.0.0.1, and stop it at the end."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keeps the terminal of the tests clean."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {key: value[0] for key, value in parse_qs(parts.query).items()}
            download = parts.path.startswith("/download/") or asked.get("alt") == "media"
            bucket, _, rest = parts.path.partition("/b/")[2].partition("/")
            name = unquote(rest.partition("/")[2])
            store.requests.append(f"{'download' if download else 'ask'} {name}")
            if not name:
                self.send_json(200, store.listed(bucket, asked.get("prefix", ""),
                                                 asked.get("delimiter", "")))
            elif f"{bucket}/{name}" not in store.files:
                self.send_json(404, {"error": {"code": 404, "message": "No such object"}})
            elif download and store.faults.get(name):
                status = store.faults[name].pop(0)
                self.send_json(status, {"error": {"code": status, "message": "of this test"}})
            elif download:
                self.send_body(200, store.files[f"{bucket}/{name}"], "image/tiff")
            else:
                self.send_json(200, store.about(bucket, name))

        def send_json(self, status: int, content: dict[str, Any]) -> None:
            self.send_body(status, json.dumps(content).encode(), "application/json")

        def send_body(self, status: int, body: bytes, kind: str) -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # gcsfs hangs up on answers that it does not need.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
