"""Downloads: resumed to the same bytes, polite, and every failure with its sentence."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
import subprocess
import sys
import time
from email.utils import formatdate

import pytest
from public_server import HTML, PublicServer, archive, tiff

from moascope.errors import MoascopeError
from moascope.screen.planes import read_plane
from moascope.sources.download import Wanted, fetch, fetch_all, sole_user
from moascope.sources.http import Absent, Manners, Trouble, Unlike, check_address, fetch_json, visit
from moascope.sources.unpacking import unpack
from moascope.work.archives import check_archive, only_member

QUICK = Manners(parallel=3, per_second=10_000, attempts=4, first_wait=0.01, longest_wait=2,
                timeout=20)
IMPATIENT = dataclasses.replace(QUICK, timeout=0.3)
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server():
    with PublicServer({"/a.bin": CONTENT, "/a.tif": tiff(1)}) as one:
        yield one


@pytest.fixture
def session():
    with visit(QUICK) as one:
        yield one


@pytest.fixture
def impatient():
    with visit(IMPATIENT) as one:
        yield one


def has_pixels(path):
    read_plane(path)


def get(server, session, tmp_path, name="a.bin", **options):
    wanted = Wanted(f"{server.url}/{name}", tmp_path / "out" / name, **options)
    fetch(session, wanted)
    return wanted.path.read_bytes()


def test_a_file_appears_whole_and_nothing_is_left_next_to_it(server, session, tmp_path):
    assert get(server, session, tmp_path, size=len(CONTENT),
               sha256=hashlib.sha256(CONTENT).hexdigest()) == CONTENT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.bin"]


def test_what_is_there_is_not_downloaded_again(server, session, tmp_path):
    get(server, session, tmp_path)
    get(server, session, tmp_path)
    assert len(server.requests) == 1


def test_a_file_of_another_size_than_known_is_fetched_anew(server, session, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.bin").write_bytes(b"old")
    assert get(server, session, tmp_path, size=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("fault", ["status 500", "status 502", "status 503", "status 504",
                                   "status 429 after 0", "status 408", "reset",
                                   "truncate 100", "truncate 0"])
def test_passing_trouble_is_got_over(server, session, tmp_path, fault):
    server.faults["/a.bin"] = [fault, fault]
    assert get(server, session, tmp_path) == CONTENT


@pytest.mark.parametrize("fault", ["hang", "trickle", "pause 100"])
def test_a_dead_line_is_hung_up_on(server, impatient, tmp_path, fault):
    server.faults["/a.bin"] = [fault]
    assert get(server, impatient, tmp_path) == CONTENT


def test_a_cut_off_file_goes_on_where_it_stopped(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000", "truncate 500"]
    assert get(server, session, tmp_path) == CONTENT
    assert [asked[1] for asked in server.requests] == ["", "bytes=1000-", "bytes=1500-"]


def test_without_a_validator_a_cut_off_file_starts_over(server, session, tmp_path):
    server.etags = False
    server.faults["/a.bin"] = ["truncate 1000"]
    assert get(server, session, tmp_path) == CONTENT
    assert [asked[1] for asked in server.requests] == ["", ""]


def test_a_server_that_ignores_ranges_is_started_over_with(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000", "ignore"]
    assert get(server, session, tmp_path) == CONTENT


def test_a_file_that_changed_meanwhile_is_never_a_mixture(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000"] + ["status 503"] * 3
    with pytest.raises(Trouble):
        get(server, session, tmp_path)
    assert (tmp_path / "out/.a.bin.part").stat().st_size == 1000
    server.files["/a.bin"] = other = CONTENT[::-1]
    assert get(server, session, tmp_path) == other


def test_a_part_larger_than_the_file_is_thrown_away(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000"] + ["status 503"] * 3
    with pytest.raises(Trouble):
        get(server, session, tmp_path)
    (tmp_path / "out/.a.bin.part").write_bytes(bytes(len(CONTENT) + 1))
    assert get(server, session, tmp_path) == CONTENT


def test_a_part_from_another_address_is_thrown_away(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000"] + ["status 503"] * 3
    with pytest.raises(Trouble):
        get(server, session, tmp_path)
    server.files["/b.bin"] = other = CONTENT[::-1]
    fetch(session, Wanted(f"{server.url}/b.bin", tmp_path / "out/a.bin"))
    assert (tmp_path / "out/a.bin").read_bytes() == other


def test_a_complete_part_needs_no_request(server, session, tmp_path):
    server.faults["/a.bin"] = ["truncate 1000"] + ["status 503"] * 3
    with pytest.raises(Trouble):
        get(server, session, tmp_path)
    asked = len(server.requests)
    (tmp_path / "out/.a.bin.part").write_bytes(CONTENT)
    assert get(server, session, tmp_path) == CONTENT
    assert len(server.requests) == asked


def test_a_flaky_line_that_brings_a_file_on_is_never_given_up(server, session, tmp_path):
    big = CONTENT * 1000
    server.files["/big.bin"] = big
    server.faults["/big.bin"] = ["truncate 1100000"] * 9
    assert get(server, session, tmp_path, "big.bin") == big


def test_the_server_says_how_long_to_wait(server, session, tmp_path):
    server.faults["/a.bin"] = ["status 429 after 1"]
    start = time.monotonic()
    get(server, session, tmp_path)
    assert time.monotonic() - start >= 1


def test_the_server_may_say_until_when_to_wait(server, session, tmp_path):
    server.faults["/a.bin"] = [f"status 503 after {formatdate(time.time() + 2, usegmt=True)}"]
    start = time.monotonic()
    get(server, session, tmp_path)
    assert time.monotonic() - start >= 0.3


def test_a_wait_beyond_reason_ends_in_a_sentence(server, session, tmp_path):
    server.always["/a.bin"] = "status 429 after 86400"
    with pytest.raises(Trouble, match=r"wait for 86,400 s \(status 429\).*run the command again"):
        get(server, session, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("fault", "manners", "cause"), [
    ("status 503", QUICK, "status 503"), ("truncate 10", QUICK, "broke off"),
    ("reset", QUICK, "closed connection|reset|aborted"),
    ("hang", IMPATIENT, "no answer in time"), ("trickle", IMPATIENT, "bytes came in"),
])
def test_lasting_trouble_ends_in_a_sentence(server, tmp_path, fault, manners, cause):
    server.always["/a.bin"] = fault
    server.etags = False
    with (visit(manners) as session,
          pytest.raises(Trouble, match=f"a.bin is not available after 4 attempts; the last one: .*"
                                       f"({cause}).*run the command again to resume") as caught):
        get(server, session, tmp_path)
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "out/a.bin").exists()


def test_a_server_that_is_not_there_ends_in_a_sentence(session, tmp_path):
    with PublicServer() as gone:
        url = gone.url
    with pytest.raises(Trouble, match=r"is not available after 4 attempts.*refused"):
        fetch(session, Wanted(f"{url}/a", tmp_path / "a"))


@pytest.mark.parametrize("status", [404, 410])
def test_what_does_not_exist_is_requested_once(server, session, tmp_path, status):
    server.always["/a.bin"] = f"status {status}"
    with pytest.raises(Absent, match=rf"/a.bin does not exist \(status {status}\)"):
        get(server, session, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "words"), [(403, "refuses access"), (401, "refuses access"),
                                               (418, "status 418"), (204, "status 204")])
def test_other_answers_end_in_a_sentence(server, session, tmp_path, status, words):
    server.always["/a.bin"] = f"status {status}"
    with pytest.raises(Trouble, match=words):
        get(server, session, tmp_path)


@pytest.mark.parametrize("kind", ["text/html", "image/tiff", "application/octet-stream"])
def test_a_web_page_in_place_of_a_picture_is_named(server, session, tmp_path, kind):
    server.always["/a.tif"] = f"html {kind}"
    with pytest.raises(Unlike, match=r"a.tif is a web page, not the file"):
        get(server, session, tmp_path, "a.tif", check=has_pixels)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_picture_spoilt_on_the_way_is_right_the_next_time(server, session, tmp_path):
    server.faults["/a.tif"] = ["shrink 3000"]
    assert get(server, session, tmp_path, "a.tif", check=has_pixels) == server.files["/a.tif"]


def test_a_picture_that_is_cut_short_at_the_server_is_named_by_its_address(
        server, session, tmp_path):
    server.files["/a.tif"] = server.files["/a.tif"][:3000]
    with pytest.raises(Unlike, match=rf"{server.url}/a.tif cannot be read: it is truncated"):
        get(server, session, tmp_path, "a.tif", check=has_pixels)


def test_sizes_and_sums_are_compared(server, session, tmp_path):
    with pytest.raises(Unlike, match="has 10,240 bytes instead of 99"):
        get(server, session, tmp_path, size=99)
    with pytest.raises(Unlike, match="more than the 5,000 allowed for it"):
        get(server, session, tmp_path, most_bytes=5000)
    with pytest.raises(Unlike, match="it is not the file that moascope knows"):
        get(server, session, tmp_path, sha256="0" * 64)
    server.files["/a.bin"] = b""
    with pytest.raises(Unlike, match="is empty"):
        get(server, session, tmp_path)


def test_an_answer_without_a_length_is_bounded(server, session, tmp_path):
    server.always["/a.bin"] = "unsized"
    with pytest.raises(Unlike, match="sends more than the 5,000 bytes"):
        get(server, session, tmp_path, most_bytes=5000)
    assert get(server, session, tmp_path) == CONTENT


def test_a_redirect_within_the_host_is_followed(server, session, tmp_path):
    server.faults["/old.bin"] = ["redirect /a.bin"]
    fetch(session, Wanted(f"{server.url}/old.bin", tmp_path / "a.bin"))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_redirect_elsewhere_is_refused(server, session, tmp_path):
    with PublicServer({"/a.bin": CONTENT}) as other:
        server.always["/a.bin"] = f"redirect {other.url}/a.bin"
        with pytest.raises(Trouble, match=rf"redirects to {other.url}, which is not one of the "
                                          "known hosts"):
            get(server, session, tmp_path)
        assert other.requests == []


def test_a_redirect_to_a_host_that_the_user_named_is_followed(server, tmp_path):
    with (PublicServer({"/a.bin": CONTENT}) as other,
          visit(QUICK, [other.url.removeprefix("http://")]) as session):
        server.always["/a.bin"] = f"redirect {other.url}/a.bin"
        assert get(server, session, tmp_path) == CONTENT


def test_redirects_without_end_end(server, session, tmp_path):
    server.always["/a.bin"] = "redirect /a.bin"
    with pytest.raises(Trouble, match="in an endless loop"):
        get(server, session, tmp_path)


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://example.org/a", "file:///etc/passwd",
                                 "https://", "a.zip", "http://127.0.0.1.example.org/a",
                                 "https://[::1/a"])
def test_only_https_is_downloaded(url):
    with pytest.raises(MoascopeError, match="is not an https:// address"):
        check_address(url)


def test_json_is_json(server, session):
    server.files["/a.json"] = b'{"plates": []}'
    assert fetch_json(session, f"{server.url}/a.json") == {"plates": []}
    server.files["/a.json"] = HTML
    with pytest.raises(Unlike, match="sent a web page instead of JSON"):
        fetch_json(session, f"{server.url}/a.json")
    server.files["/a.json"] = b'{"plates": ['
    with pytest.raises(Unlike, match="sent something else instead of JSON"):
        fetch_json(session, f"{server.url}/a.json")


def test_a_full_disk_ends_in_a_sentence_and_keeps_what_is_there(server, session, tmp_path):
    code = ("import resource, sys; from pathlib import Path\n"
            "from moascope.errors import run_to_exit_code\n"
            "from moascope.sources.download import *; "
            "from moascope.sources.http import *\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
            "def program():\n"
            "    with visit(Manners()) as session:\n"
            "        fetch(session, Wanted(sys.argv[1], Path(sys.argv[2])))\n"
            "sys.exit(run_to_exit_code(program))")
    done = subprocess.run([sys.executable, "-c", code, f"{server.url}/a.bin",
                           str(tmp_path / "a.bin")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a.bin.part cannot be written: File too large. Make room" in done.stderr
    fetch(session, Wanted(f"{server.url}/a.bin", tmp_path / "a.bin"))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=5000-"


# Many files


def many(server, tmp_path, count=40):
    server.files |= {f"/m/{i}": f"file {i}".encode() for i in range(count)}
    return [Wanted(f"{server.url}/m/{i}", tmp_path / f"{i}") for i in range(count)]


def test_connections_are_bounded(server, session, tmp_path):
    server.delay = 0.02
    assert fetch_all(session, many(server, tmp_path), "files") == {}
    assert 1 < server.most_busy <= QUICK.parallel
    assert all((tmp_path / f"{i}").read_text() == f"file {i}" for i in range(40))


def test_requests_are_paced(server, tmp_path):
    with visit(Manners(parallel=4, per_second=20, timeout=1)) as session:
        start = time.monotonic()
        fetch_all(session, many(server, tmp_path, 11), "files")
        assert time.monotonic() - start >= 10 / 20


def test_missing_files_are_named_and_the_rest_comes(server, session, tmp_path):
    wanted = many(server, tmp_path)
    del server.files["/m/3"], server.files["/m/7"]
    failures = fetch_all(session, wanted, "files", most_missing=0.05)
    assert {path.name: re.search(r"/m/.*?\.", why)[0] for path, why in failures.items()} == {
        "3": "/m/3 does not exist (status 404).", "7": "/m/7 does not exist (status 404)."}
    assert len(list(tmp_path.iterdir())) == 38


def test_too_many_missing_files_stop_it(server, session, tmp_path):
    wanted = many(server, tmp_path)
    for i in (3, 4, 9):
        del server.files[f"/m/{i}"]
    with pytest.raises(MoascopeError, match=r"3 files not available, more than the 5.0% of 40 "
                                            r"files that acquire.max_missing allows: .*/m/3 does"):
        fetch_all(session, wanted, "files", most_missing=0.05)


def test_a_server_that_lost_everything_is_given_up_early(server, session, tmp_path):
    wanted = many(server, tmp_path, 400)
    server.files.clear()
    with pytest.raises(MoascopeError, match="25 files in a row"):
        fetch_all(session, wanted, "files", most_missing=1.0)
    assert len(server.requests) < 40


def test_trouble_with_one_file_stops_all_and_keeps_what_is_complete(server, session, tmp_path):
    wanted = many(server, tmp_path, 100)
    server.always["/m/20"] = "status 503"
    with pytest.raises(Trouble, match="/m/20 is not available"):
        fetch_all(session, wanted, "files", most_missing=1.0)
    there = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert 19 < len(there) < 99
    server.always.clear()
    asked = len(server.requests)
    with visit(QUICK) as again:
        assert fetch_all(again, wanted, "files") == {}
    assert len(server.requests) - asked <= 100 - len(there)


def test_two_downloads_into_one_folder_do_not_meet(tmp_path):
    with (sole_user(tmp_path), pytest.raises(MoascopeError, match="Another moascope is"),
          sole_user(tmp_path)):
        pass
    with sole_user(tmp_path):
        pass


def test_a_killed_download_resumes_and_ends_in_the_same_bytes(server, session, tmp_path):
    big = CONTENT * 200
    server.files["/big.bin"] = big
    server.faults["/big.bin"] = ["pause 1000000"]
    code = ("import sys; from pathlib import Path; from moascope.sources.download import *; "
            "from moascope.sources.http import *\n"
            "with visit(Manners(timeout=60)) as session:\n"
            "    fetch(session, Wanted(sys.argv[1], Path(sys.argv[2])))")
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/big.bin",
                                str(tmp_path / "big.bin")])
    part = tmp_path / ".big.bin.part"
    for _ in range(400):
        if part.exists() and part.stat().st_size >= 1_000_000:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert part.stat().st_size == 1_000_000
    assert not (tmp_path / "big.bin").exists()
    fetch(session, Wanted(f"{server.url}/big.bin", tmp_path / "big.bin"))
    assert (tmp_path / "big.bin").read_bytes() == big
    assert server.requests[-1][1] == "bytes=1000000-"


# Archives


def zipped(tmp_path, files, name="a.zip"):
    path = tmp_path / name
    path.write_bytes(archive(files))
    return path


def test_only_what_is_wanted_is_unpacked(tmp_path):
    path = zipped(tmp_path, {"P/one.tif": b"1", "P/two.tif": b"2", "P/Thumbs.db": b"x"})
    missing = unpack(path, {"one.tif": "a.tif", "three.tif": "c.tif"}, tmp_path / "out", 100)
    assert missing == ["three.tif"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "a.tif": b"1"}


@pytest.mark.parametrize("name", ["../evil.tif", "/etc/evil.tif", "a/../../evil.tif",
                                  "..\\evil.tif", "C:\\evil.tif"])
def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path, name):
    path = zipped(tmp_path, {name: b"1", "good.tif": b"2"})
    with pytest.raises(MoascopeError, match="contains paths that point outside it"):
        unpack(path, {"evil.tif": "evil.tif", "good.tif": "good.tif"}, tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()


def test_links_in_an_archive_are_refused(tmp_path):
    import zipfile

    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        link = zipfile.ZipInfo("link.tif")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(MoascopeError, match="contains links"):
        check_archive(path)


def test_a_zip_bomb_does_not_go_off(tmp_path):
    path = zipped(tmp_path, {"bomb.tif": bytes(50_000_000)})
    with pytest.raises(MoascopeError, match=r"unpacks .* bytes to 50,000,000"):
        unpack(path, {"bomb.tif": "bomb.tif"}, tmp_path / "out", 1 << 30)
    with pytest.raises(MoascopeError, match=r"unpacks .* bytes to 50,000,000"):
        unpack(path, {"bomb.tif": "bomb.tif"}, tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_lies_about_its_sizes_is_caught(tmp_path):
    content = bytes(range(256)) * 100
    path = zipped(tmp_path, {"a.tif": content})
    lying = path.read_bytes().replace(len(content).to_bytes(4, "little"),
                                      (100).to_bytes(4, "little"))
    path.write_bytes(lying)
    with pytest.raises(MoascopeError, match=r"unpacks|not a valid zip"):
        unpack(path, {"a.tif": "a.tif"}, tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_in_an_archive_are_errors(tmp_path):
    path = zipped(tmp_path, {"P/a.tif": b"1", "Q/a.tif": b"2"})
    with pytest.raises(MoascopeError, match=r"has 'a.tif' twice \(P/a.tif and Q/a.tif\)"):
        unpack(path, {"a.tif": "a.tif"}, tmp_path / "out", 100)


def test_a_damaged_archive_is_an_error(tmp_path):
    path = zipped(tmp_path, {"a.tif": bytes(range(256)) * 40})
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(MoascopeError, match="not a valid zip archive"):
        check_archive(path)
    for spoilt in (bytes(40), b"\xff" * 40):
        path.write_bytes(whole[:60] + spoilt + whole[100:])
        with pytest.raises(MoascopeError, match="not a valid zip archive"):
            unpack(path, {"a.tif": "a.tif"}, tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def test_spoilt_bzip2_in_an_archive_is_an_error(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.tif", bytes(range(256)) * 40)
    whole = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[:35] + bytes(60) + whole[95:])
    with pytest.raises(MoascopeError, match="not a valid zip archive"):
        unpack(tmp_path / "b.zip", {"a.tif": "a.tif"}, tmp_path / "out", 1 << 20)


@pytest.mark.parametrize("where", ["open", "mkdir", "replace"])
def test_a_disk_that_is_full_while_unpacking_is_an_error(tmp_path, monkeypatch, where):
    path = zipped(tmp_path, {"a.tif": b"1"})

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), where, full)
        with pytest.raises(MoascopeError, match=r"out cannot be written: No space left on device\. "
                                                r"Make room.*acquire\.downloads"):
            unpack(path, {"a.tif": "a.tif"}, tmp_path / "out", 100)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_unpacking_leaves_no_half_folder(tmp_path):
    path = zipped(tmp_path, {"a.tif": b"1"})
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/rest.tif").write_bytes(b"0")
    unpack(path, {"a.tif": "a.tif"}, tmp_path / "out", 100)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.tif"]


def test_the_one_table_of_an_archive_is_read(tmp_path):
    assert only_member(zipped(tmp_path, {"t/a.CSV": b"x", "b.txt": b"y"}), (".csv",), 10) == b"x"
    with pytest.raises(MoascopeError, match=r"exactly one file that ends in \.csv, but holds"):
        only_member(zipped(tmp_path, {"a.csv": b"x", "b.csv": b"y"}), (".csv",), 10)


