"""A local page in a thread, and a browser without a screen that asks it."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

from moascope.web.defences import Application
from moascope.web.serving import make_server
from moascope.web.site import Site


@contextlib.contextmanager
def serving(app: Application, site: Site) -> Iterator[None]:
    """Serve until the block ends."""
    server = make_server(app, site)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [site.listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


class Client:
    """Keeps the site's cookie and follows no redirect."""

    def __init__(self, site: Site):
        self.site = site
        self.cookie = f"{site.cookie}={site.key}"

    def ask(self, path, form=None, method="", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=20)
        headers = {"Cookie": self.cookie, **{name.replace("_", "-"): value
                                             for name, value in headers.items()}}
        body = None
        if form is not None:
            body = urlencode(form, doseq=True)
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        with contextlib.closing(connection):
            connection.request(method or ("POST" if form is not None else "GET"), path, body,
                               headers)
            answer = connection.getresponse()
            return answer, answer.read()
