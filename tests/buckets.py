"""A real S3 interface on this machine, moto's server, behind a proxy that misbehaves on demand.

    with bucket_server() as bucket:
        bucket.put("plates/a.tif", b"...")
        bucket.faults["GET plates/a.tif"] = ["slow down", "cut 100"]

Each fault is used up by one request for that method and key, in order; what is in `always` happens
at every request. "replace" stores what `bucket.replacements` has for the key, before it answers.
`bucket.requests` lists what was asked, and `bucket.sent` counts bytes of bodies. Every answer waits
for `bucket.delay` seconds, as distant stores do; `bucket.most_busy` is how many did so at once.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import botocore.config
from moto.server import ThreadedMotoServer

NAME = "gallery"
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
_FAULTS = {"slow down": (503, "SlowDown"), "internal": (500, "InternalError"),
           "wrong key": (403, "InvalidAccessKeyId"), "denied": (403, "AccessDenied"),
           "skewed": (403, "RequestTimeTooSkewed")}


class Bucket:
    """A bucket, and the proxy through which moascope sees it."""

    def __init__(self, moto: tuple[str, int]):
        self.moto = moto
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.requests: list[str] = []
        self.sent = 0
        self.delay = 0.0
        self.busy = self.most_busy = 0
        self.replacements: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.client = boto3.client(
            "s3", endpoint_url=f"http://{moto[0]}:{moto[1]}", region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
            config=botocore.config.Config(retries={"total_max_attempts": 1}))
        self.client.create_bucket(Bucket=NAME, ACL="public-read")

    def forget(self) -> None:
        """Forget faults and requests."""
        self.faults.clear()
        self.always.clear()
        self.requests.clear()
        self.sent = self.most_busy = 0
        self.delay = 0.0

    def put(self, key: str, content: bytes, **how: str) -> str:
        """Store an object, and give its address."""
        self.client.put_object(Bucket=NAME, Key=key, Body=content, ACL="public-read", **how)
        return f"s3://{NAME}/{key}"

    def clear(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=NAME,
                                                                          Prefix=prefix):
            for found in page.get("Contents", ()):
                self.client.delete_object(Bucket=NAME, Key=found["Key"])

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Store all files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def asked(self, method: str = "GET") -> list[str]:
        """The keys that were asked for by a method."""
        return [line.split(" ", 1)[1] for line in self.requests if line.startswith(f"{method} ")]


@contextlib.contextmanager
def bucket_server(host: str = "127.0.0.1") -> Iterator[Bucket]:
    """Start moto's server and the proxy on free ports of this machine, and stop both at the end.

    Moto's is on 127.0.0.1, the proxy at `host`.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        bucket = Bucket(moto.get_host_and_port())
        proxy = ThreadingHTTPServer((host, 0), _handler(bucket))
        proxy.daemon_threads = True
        # Clients that hang up in the middle are what these tests are about.
        proxy.handle_error = lambda *_: None
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        bucket.url = f"http://{host}:{proxy.server_address[1]}"
        try:
            yield bucket
        finally:
            proxy.shutdown()
            proxy.server_close()
            thread.join()
            bucket.client.close()
    finally:
        moto.stop()


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keeps the terminal of the tests clean."""

        def do_GET(self) -> None:
            key = unquote(urlsplit(self.path).path).removeprefix(f"/{NAME}/")
            asked = f"{self.command} {key}"
            with bucket.lock:
                bucket.requests.append(asked)
                waiting = bucket.faults.get(asked)
                fault = waiting.pop(0) if waiting else bucket.always.get(
                    asked, bucket.always.get("*", ""))
                bucket.busy += 1
                bucket.most_busy = max(bucket.most_busy, bucket.busy)
            time.sleep(bucket.delay)
            if fault == "replace":
                # Between the question for its version and its content.
                bucket.put(key, bucket.replacements[key])
            try:
                with contextlib.suppress(ConnectionError):
                    self.answer(fault)
            finally:
                with bucket.lock:
                    bucket.busy -= 1

        do_HEAD = do_GET

        def answer(self, fault: str) -> None:
            kind, _, detail = fault.partition(" ")
            if fault in _FAULTS:
                status, code = _FAULTS[fault]
                when = time.time() + (7200 if fault == "skewed" else 0)
                self.send(status, {"Date": email.utils.formatdate(when, usegmt=True),
                                   "Content-Type": "application/xml"},
                          _ERROR.format(code, "of this test").encode())
                return
            upstream = http.client.HTTPConnection(*bucket.moto, timeout=20)
            try:
                upstream.request(self.command, self.path, headers={
                    name: value for name, value in self.headers.items()
                    if name.lower() not in ("connection", "host")})
                response = upstream.getresponse()
                body = response.read()
                headers = {name: value for name, value in response.getheaders()
                           if name.lower() not in ("connection", "transfer-encoding", "server")}
            finally:
                upstream.close()
            if self.command == "HEAD":
                self.send(response.status, headers, b"")
                return
            if kind == "cut":
                headers["Content-Length"] = str(len(body))
                body = body[:int(detail)]
                self.close_connection = True
            elif kind == "garble":
                body = bytes(reversed(body))
            else:
                headers["Content-Length"] = str(len(body))
            self.send(response.status, headers, body)

        def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
                with bucket.lock:
                    bucket.sent += len(body)

    return Handler
