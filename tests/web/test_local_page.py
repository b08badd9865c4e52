"""A local page keeps strangers out: other sites in the browser, and other people on the machine."""

import contextlib
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from http.client import HTTPConnection

import pytest
from browsing import Client, serving

from moascope.errors import MoascopeError
from moascope.web.application import MAX_BODY, make_application, query, render_page
from moascope.web.defences import is_same
from moascope.web.serving import make_server
from moascope.web.site import open_site


@pytest.fixture
def site():
    return open_site()


@pytest.fixture
def heard():
    """The forms that the page was given."""
    return []


@pytest.fixture
def pages(site, heard):
    from starlette.responses import HTMLResponse, PlainTextResponse
    from starlette.routing import Route

    def page(request):
        return HTMLResponse(f"<style nonce={request.state.nonce}></style>secret")

    def write(request):
        heard.append(dict(request.state.form))
        return PlainTextResponse("written")

    def crash(request):
        raise ZeroDivisionError

    def complain(request):
        raise MoascopeError(["One thing is wrong.", "Another is too."])

    def cached(request):
        return PlainTextResponse("same", headers={"Cache-Control": "private, max-age=600"})

    return [Route("/", page), Route("/write", write, methods=["POST"]), Route("/crash", crash),
            Route("/complain", complain), Route("/cached", cached)]


@pytest.fixture
def client(site, pages):
    with serving(make_application(pages, site), site):
        yield Client(site)


# Where it is


def test_a_page_listens_on_this_machine_only_and_on_a_port_of_its_own(site):
    with contextlib.closing(open_site().listener) as other, contextlib.closing(site.listener):
        for listener in (site.listener, other):
            assert listener.getsockname()[0] == "127.0.0.1"
        assert other.getsockname()[1] != site.port


def test_a_port_that_is_taken_is_a_sentence(site):
    with (contextlib.closing(site.listener),
          pytest.raises(MoascopeError, match=f"Port {site.port} cannot be used")):
        open_site(site.port)


def test_a_port_is_free_again_after_its_page_has_ended(site, pages):
    with serving(make_application(pages, site), site):
        Client(site).ask("/")
    again = open_site(site.port)
    with serving(make_application(pages, again), again):
        assert Client(again).ask("/")[0].status == 200


def test_two_pages_share_no_secret(site):
    other = open_site()
    with contextlib.closing(other.listener), contextlib.closing(site.listener):
        assert len({site.key, site.token, other.key, other.token}) == 4
        assert site.cookie != other.cookie
        assert site.key not in repr(site) and site.token not in repr(site)


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost",
                                  "127.0.0.1:1", "127.0.0.1:{port}.evil.example", ""])
def test_only_its_own_host_and_port_are_answered(client, host):
    for form in (None, {"token": client.site.token}):
        answer, content = client.ask("/", form, Host=host.format(port=client.site.port))
        assert answer.status == 421 and b"secret" not in content
        assert answer.getheader("Connection") == "close"


def test_without_the_key_nothing_is_shown(client, heard):
    for cookie in ("", "moascope=x", f"{client.site.cookie}=wrong", f"{client.site.cookie}=é"):
        client.cookie = cookie.encode()
        for path in ("/", "/crash", "/nothing", "/?key=wrong", "/?key=%C3%A9", "/?key="):
            answer, content = client.ask(path)
            assert answer.status == 403 and b"secret" not in content
        assert client.ask("/write", {"token": client.site.token})[0].status == 403
    assert heard == []


def test_the_key_opens_the_page_and_leaves_the_address_bar(client):
    client.cookie = ""
    answer, _ = client.ask(f"/?key={client.site.key}")
    home = f"http://127.0.0.1:{client.site.port}"
    assert (answer.status, answer.getheader("Location")) == (303, f"{home}/")
    cookie = answer.getheader("Set-Cookie")
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Domain" not in cookie
    # Another page may be the first, and none leads to another host.
    for path, left in (("/a?b=c%26d&", "/a?b=c%26d"), ("//evil.example/?", "//evil.example/")):
        answer, _ = client.ask(f"{path}key={client.site.key}")
        assert (answer.status, answer.getheader("Location")) == (303, home + left)
    client.cookie = cookie.partition(";")[0]
    assert b"secret" in client.ask("/")[1]


def test_a_guess_is_compared_whatever_letters_it_has():
    assert is_same("é", "é") and not is_same("é", "e") and not is_same("\udce9", "e")


# What may be sent


def test_a_form_with_the_token_arrives(client, heard):
    form = {"token": client.site.token, "word": "é & ü", "empty": ""}
    own = {"Origin": f"http://localhost:{client.site.port}", "Sec-Fetch-Site": "same-origin"}
    assert client.ask("/write", form)[0].status == 200
    assert client.ask("/write", form, **own)[0].status == 200
    assert heard == [form, form]


@pytest.mark.parametrize(("changes", "headers"), [
    ({"token": "guess"}, {}), ({"token": ""}, {}), ({"token": "é"}, {}),
    ({}, {"Origin": "http://evil.example"}), ({}, {"Origin": "null"}),
    ({}, {"Origin": "http://127.0.0.1"}),
    ({}, {"Sec-Fetch-Site": "cross-site"}), ({}, {"Sec-Fetch-Site": "same-site"}),
    ({}, {"Sec-Fetch-Site": "none"}),
])
def test_a_form_of_another_page_is_refused(client, heard, changes, headers):
    form = {"token": client.site.token, **changes}
    assert client.ask("/write", form, **headers)[0].status == 403
    assert heard == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "WHATEVER"])
def test_other_methods_need_the_token_and_find_nothing(client, heard, method):
    assert client.ask("/write", method=method)[0].status == 403
    assert client.ask("/write", {"token": client.site.token}, method)[0].status == 405
    assert heard == []


def test_a_form_is_not_sent_by_a_link(client, heard):
    assert client.ask(f"/write?token={client.site.token}")[0].status == 405
    assert heard == []


def test_a_form_is_read_up_to_its_largest_size(client, heard):
    room = MAX_BODY - len(f"token={client.site.token}&word=")
    assert client.ask("/write", {"token": client.site.token, "word": "x" * room})[0].status == 200
    assert len(heard) == 1
    # The server may hang up before all of it is sent, and then no answer arrives.
    with contextlib.suppress(ConnectionError):
        form = {"token": client.site.token, "word": "x" * (room + 1)}
        assert client.ask("/write", form)[0].status == 413
    assert len(heard) == 1


def test_a_form_of_unknown_size_is_not_read_for_ever(client, heard):
    with socket.create_connection(("127.0.0.1", client.site.port), timeout=20) as line:
        line.sendall((f"POST /write HTTP/1.1\r\nHost: 127.0.0.1:{client.site.port}\r\n"
                      f"Cookie: {client.cookie}\r\nTransfer-Encoding: chunked\r\n\r\n").encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(9):
                line.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            assert b" 413 " in line.recv(99).splitlines()[0]
    assert heard == []


def test_a_refused_request_does_not_begin_another(client, heard):
    """What is left unread of a form must not be taken for a request of its own."""
    token = client.site.token
    hidden = (f"POST /write HTTP/1.1\r\nHost: 127.0.0.1:{client.site.port}\r\nCookie: "
              f"{client.cookie}\r\nContent-Length: {len(token) + 6}\r\n\r\ntoken={token}")
    with socket.create_connection(("127.0.0.1", client.site.port), timeout=20) as line:
        line.sendall((f"POST /write HTTP/1.1\r\nHost: evil.example\r\n"
                      f"Content-Length: {len(hidden)}\r\n\r\n{hidden}").encode())
        answers = b""
        with contextlib.suppress(ConnectionError):
            while more := line.recv(4096):
                answers += more
    assert answers.count(b"HTTP/1.1") == 1 and b" 421 " in answers
    assert heard == []


# What the browser is allowed


@pytest.mark.parametrize(("path", "status"), [
    ("/", 200), ("/nothing", 404), ("//", 404), ("/crash", 500), ("/complain", 409),
    ("/../../etc/passwd", 404), ("/%2e%2e/%2e%2e/etc/passwd", 404), ("/favicon.ico", 204)])
def test_every_answer_forbids_to_load_to_frame_and_to_keep(client, path, status):
    answer, content = client.ask(path)
    assert answer.status == status
    policy = answer.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    nonce = re.findall(r"'nonce-([\w-]+)'", policy)
    assert len(nonce) == (2 if path == "/" else 0)
    assert all(f"nonce={one}".encode() in content for one in nonce)
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "same-origin"
    assert answer.getheader("Cross-Origin-Opener-Policy") == "same-origin"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("Server") is None
    assert "Traceback" not in content.decode() and "ZeroDivision" not in content.decode()


def test_a_crash_is_for_the_terminal_and_the_page_goes_on(site, pages, caplog):
    with serving(make_application(pages, site), site):
        assert Client(site).ask("/crash")[0].status == 500
        assert Client(site).ask("/")[0].status == 200
    assert "ZeroDivisionError" in caplog.text


def test_refusals_have_the_headers_too(client):
    for answer, _ in (client.ask("/", Host="evil.example"), client.ask("/write", {}),
                      client.ask("/", Cookie="")):
        assert answer.status in (421, 403)
        assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'")


def test_every_answer_has_a_nonce_of_its_own(client):
    policies = {client.ask("/")[0].getheader("Content-Security-Policy") for _ in range(5)}
    assert len(policies) == 5


def test_a_response_may_be_kept_where_it_says_so(client):
    assert client.ask("/cached")[0].getheader("Cache-Control") == "private, max-age=600"


def test_an_error_of_the_input_is_shown_in_its_sentences(client):
    answer, content = client.ask("/complain")
    assert (answer.status, content) == (409, b"One thing is wrong.\nAnother is too.\n")


# Templates


def test_a_template_escapes_text_and_a_name_that_is_missing_is_an_error(tmp_path, monkeypatch):
    from jinja2 import UndefinedError
    from starlette.requests import Request

    package = tmp_path / "room_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "page.jinja").write_text("<p {{ nonce }}>{{ name }}<a href='/{{ "
                                        "{'a': name, 'b': '', 'c': none} | query }}'>{{ token }}")
    monkeypatch.syspath_prepend(tmp_path)
    request = Request({"type": "http", "state": {"nonce": "abc"}})
    site = open_site()
    site.listener.close()
    text = render_page(request, site, "room_of_a_test", "page.jinja", name="<&é").body.decode()
    assert text == f"<p abc>&lt;&amp;é<a href='/?a=%3C%26%C3%A9'>{site.token}"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        render_page(request, site, "room_of_a_test", "page.jinja")


def test_links_leave_out_what_is_empty():
    assert query({"compound": "a b", "tab": "", "channel": None, "view": 0}) == (
        "?compound=a+b&view=0")


# Patience


def test_the_body_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(client):
    with contextlib.closing(HTTPConnection("127.0.0.1", client.site.port)) as connection:
        took = []
        for _ in range(9):
            start = time.perf_counter()
            connection.request("GET", "/", headers={"Cookie": client.cookie})
            connection.getresponse().read()
            took.append(time.perf_counter() - start)
    assert sorted(took)[4] < 0.03   # 0.04 with Nagle's algorithm


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo", None])
def test_a_client_that_falls_silent_is_not_waited_for(site, pages, begun):
    site = replace(site, patience=0.3)
    with (serving(make_application(pages, site), site),
          socket.create_connection(("127.0.0.1", site.port), timeout=20) as line):
        if begun is None:   # after a whole request, half of another
            line.sendall((f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
                          f"Cookie: {site.cookie}={site.key}\r\n\r\n").encode())
            received = b""
            while b"secret" not in received:
                received += line.recv(4096)
            begun = b"GET"
        line.sendall(begun)
        start = time.perf_counter()
        with contextlib.suppress(ConnectionError):
            assert line.recv(99) == b""
        assert time.perf_counter() - start < 5


def test_half_a_form_is_not_waited_for(site, pages, heard):
    site = replace(site, patience=0.3)
    with (serving(make_application(pages, site), site),
          socket.create_connection(("127.0.0.1", site.port), timeout=20) as line):
        line.sendall((f"POST /write HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nCookie: "
                      f"{site.cookie}={site.key}\r\nContent-Length: 99\r\n\r\ntoken=").encode())
        assert b" 408 " in line.recv(99).splitlines()[0]
    assert heard == []


def test_a_page_stops_while_browsers_hold_their_connections(site, pages):
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(make_application(pages, site), site))
        for _ in range(3):
            stack.callback(socket.create_connection(("127.0.0.1", site.port)).close)
        assert Client(site).ask("/")[0].status == 200
        line = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
        line.sendall((f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n").encode())
        assert line.recv(4096)
        start = time.perf_counter()
        stack.pop_all().close()
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_page_ends_on_a_signal_and_ctrl_c_is_not_an_error(signal_name):
    import signal

    # Shells have SIGINT ignored by what they start in the background.
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from moascope.web.application import make_application\n"
            "from moascope.web.serving import serve_until_stopped\n"
            "from moascope.web.site import open_site\n"
            "site = open_site()\n"
            "serve_until_stopped(make_application([], site), site, 'open')\n"
            "print('ended')")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "open\n"
        run.send_signal(getattr(signal, signal_name))
        printed, errors = run.communicate(timeout=30)
    assert errors == ""
    assert (run.returncode, printed) == ((0, "ended\n") if signal_name == "SIGINT"
                                         else (-signal.SIGTERM, ""))


def test_the_server_writes_nothing_of_its_own_to_the_terminal(site, pages, capfd):
    with serving(make_application(pages, site), site):
        Client(site).ask("/")
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
            line.sendall(b"nonsense\r\n\r\n")
            assert b" 400 " in line.recv(99).splitlines()[0]
    assert capfd.readouterr() == ("", "")


def test_no_proxy_is_believed(site):
    with contextlib.closing(site.listener):
        config = make_server(make_application([], site), site).config
    assert not config.proxy_headers and config.ws == "none"
