"""The local page: what it refuses, what it writes, and that a browser's keys work on it."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from urllib.parse import urlencode

import browsing
import numpy as np
import pandas as pd
import pytest
from browsing import serving
from helpers import edit_csv, make_screen

from moascope.annotation.pictures import channel_colours, find_views, render_view
from moascope.annotation.run import annotate_files
from moascope.annotation.serve import review_application, serve_review
from moascope.annotation.session import Session, begin_session
from moascope.errors import MoascopeError
from moascope.screen.description import write_description
from moascope.screen.limits import PlaneError
from moascope.screen.tables import read_screen
from moascope.web.site import Site, open_site

MOA = {"C00": "acetylcholine receptor agonist", "C01": "glutamate receptor antagonist",
       "C02": "bile acid receptor agonist|HDAC inhibitor", "C03": "opioid receptor agonist"}


@pytest.fixture
def screen(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=2, wells=8, annotations=MOA)
    annotations = pd.read_csv(folder / "annotations.csv", dtype=str).drop(columns="gpcr")
    annotations["Metadata_SMILES"] = "<b>&C</b>"
    annotations.to_csv(folder / "annotations.csv", index=False)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "annotations.csv"


@dataclass
class Running:
    """A page that is being served."""

    session: Session
    site: Site


@pytest.fixture
def start(screen, out):
    with contextlib.ExitStack() as stack:
        def begin(curator="anna"):
            done = annotate_files(screen / "annotations.csv", out, screen=screen)
            running = Running(begin_session(done, out, curator), open_site())
            stack.enter_context(serving(review_application(running.session, running.site),
                                        running.site))
            return running

        yield begin


def test_pictures_outside_a_received_screen_are_shown_only_where_that_is_allowed(screen, out,
                                                                                 tmp_path):
    received = tmp_path / "received"
    received.mkdir()
    for name in ("load_data.csv", "layout.csv", "annotations.csv"):
        (received / name).write_bytes((screen / name).read_bytes())
    write_description(received, {"images": str(screen)})
    with pytest.raises(MoascopeError, match=r"lie outside the folder.*Add --allow-outside"):
        annotate_files(received / "annotations.csv", out, screen=received)
    assert not out.exists()
    done = annotate_files(received / "annotations.csv", out, screen=received, allow_outside=True)
    assert done.screen.images == screen


def rows(out):
    return pd.read_csv(out, dtype=str, keep_default_na=False).set_index("Metadata_Compound")


@pytest.fixture
def alike(screen):
    """C00, C01 and C03 have one undecided term, C02 another."""
    term = "acetylcholine receptor agonist"
    edit_csv(screen / "annotations.csv", Metadata_MoA={0: term, 1: term.title(), 3: term})


class Client(browsing.Client):
    def __init__(self, running):
        super().__init__(running.site)
        self.session = running.session

    def form(self, name, /, **changes):
        """What the page of a compound sends when a button is pressed."""
        _, page = self.ask("/?" + urlencode({"compound": name, "tab": "one"}))
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"',
                                 page.decode().partition('action="/decide"')[2]))
        return {**hidden, **changes}


# What it refuses


def test_the_page_is_served_on_this_machine_only(start):
    site = start().site
    assert site.listener.getsockname()[0] == "127.0.0.1"
    assert site.address.startswith(f"http://127.0.0.1:{site.port}/?key=")


def test_another_hosts_name_is_refused(start):
    client = Client(start())
    assert client.ask("/", Host="evil.example")[0].status == 421
    assert client.ask("/", Host=f"evil.example:{client.site.port}")[0].status == 421
    assert client.ask("/", {}, Host="evil.example")[0].status == 421
    assert client.ask("/", Host=f"localhost:{client.site.port}")[0].status == 200


def test_without_the_key_nothing_is_shown_and_with_it_a_cookie_is_set(start):
    client = Client(start())
    client.cookie = ""
    for path in ("/", "/picture?compound=C00&view=0", "/?key=wrong", "/?key=%C3%A9"):
        answer, content = client.ask(path)
        assert answer.status == 403 and b"C00" not in content
    answer, _ = client.ask(f"/?key={client.site.key}")
    assert answer.status == 303
    cookie = answer.getheader("Set-Cookie")
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert answer.getheader("Location") == f"http://127.0.0.1:{client.site.port}/"


@pytest.mark.parametrize(("changes", "headers"), [
    ({"token": "guess"}, {}),
    ({"token": ""}, {}),
    ({}, {"Origin": "http://evil.example"}),
    ({}, {"Origin": "null"}),
    ({}, {"Sec-Fetch-Site": "cross-site"}),
    ({}, {"Sec-Fetch-Site": "same-site"}),
])
def test_a_form_of_another_page_changes_nothing(start, out, changes, headers):
    client = Client(start())
    before = out.read_bytes()
    form = client.form("C00", gpcr="no", **changes)
    assert client.ask("/decide", form, **headers)[0].status == 403
    assert out.read_bytes() == before


@pytest.mark.parametrize("changes", [
    {"gpcr": "perhaps"}, {"gpcr": "yes", "action": "blocker"}, {"gpcr": "no", "compound": "C99"},
])
def test_a_decision_that_the_page_does_not_offer_changes_nothing(start, out, changes):
    client = Client(start())
    before = out.read_bytes()
    assert client.ask("/decide", client.form("C00", **changes))[0].status == 400
    assert out.read_bytes() == before


def test_a_huge_form_is_refused_unread(start, out):
    client = Client(start())
    before = out.read_bytes()
    form = client.form("C00", gpcr="no", padding="x" * 100_000)
    # The server may hang up before all of it is sent, and then no answer arrives.
    with contextlib.suppress(ConnectionError):
        assert client.ask("/decide", form)[0].status == 413
    assert out.read_bytes() == before


def test_nothing_is_loaded_from_elsewhere_and_text_stays_text(start):
    client = Client(start())
    answer, page = client.ask("/?compound=C00&note=%3Cscript%3Ealert(1)%3C/script%3E")
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(rb"(src|href|action)=.?(https?:|//)", page)
    assert b"&lt;b&gt;&amp;C&lt;/b&gt;" in page and b"<b>&C" not in page
    assert b"<script>alert" not in page


@pytest.mark.parametrize("path", ["/nothing", "/picture?compound=C00&view=9",
                                  "/picture?compound=../../x&view=0", "/picture?view=-1"])
def test_what_is_not_there_is_not_found(start, path):
    assert Client(start()).ask(path)[0].status == 404


def test_the_command_serves_until_it_is_interrupted_and_says_where_the_decisions_are(screen, out):
    # Shells have it ignored by what they start in the background, and that is handed down.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from moascope.cli import main; "
            f"sys.argv = ['moascope', 'annotate', {str(screen / 'annotations.csv')!r}, '--out', "
            f"{str(out)!r}, '--serve', '--curator', 'dora']; main()")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        printed = ""
        while "Press Ctrl-C" not in printed:
            line = run.stdout.readline()
            assert line, printed
            printed += line
        address = re.search(r"http://127\.0\.0\.1:(\d+)/\?key=\S+", printed)
        assert address and "with the name dora" in printed
        run.send_signal(signal.SIGINT)
        rest = run.communicate(timeout=30)[0]
    assert run.returncode == 0 and f"all are in {out}" in rest


def test_no_page_is_opened_for_nothing(tmp_path, capsys):
    (tmp_path / "in.csv").write_text("compound,moa\nA,HDAC inhibitor\n")
    serve_review(annotate_files(tmp_path / "in.csv", tmp_path / "out.csv"), tmp_path / "out.csv",
                 "anna")
    assert "Nothing to review" in capsys.readouterr().out


# What it writes


def test_a_decision_is_on_disk_before_the_answer(start, out):
    client = Client(start())
    answer, _ = client.ask("/decide", client.form("C01", gpcr="yes",
                                                  action=["antagonist", "agonist"]))
    assert answer.status == 303
    row = rows(out).loc["C01"]
    assert row[["gpcr", "gpcr_action", "curator"]].tolist() == ["yes", "agonist|antagonist",
                                                               "anna"]
    assert row["evidence"].startswith("a person decided; terms 3: ")


def test_an_action_goes_with_a_yes_only(start, out):
    client = Client(start())
    client.ask("/decide", client.form("C01", gpcr="no", action=["antagonist"]))
    assert rows(out).loc["C01", ["gpcr", "gpcr_action"]].tolist() == ["no", ""]


def test_a_killed_server_has_lost_nothing_and_the_next_asks_only_what_is_left(start, out):
    client = Client(start())
    client.ask("/decide", client.form("C01", gpcr="no"))
    again = start("ben")
    assert "C01" not in again.session.questions
    assert sorted(again.session.questions) == ["C00", "C02"]
    assert rows(out).loc["C01", ["gpcr", "curator"]].tolist() == ["no", "anna"]


def test_two_tabs_do_not_overwrite_each_other(start, out):
    client = Client(start())
    one = client.form("C00", gpcr="yes", tab="one")
    two = client.form("C00", gpcr="no", tab="two")
    other = client.form("C01", gpcr="no", tab="two")
    client.ask("/decide", one)
    answer, _ = client.ask("/decide", two)
    assert "refused=1" in answer.getheader("Location")
    assert "in+the+meantime" in answer.getheader("Location")
    client.ask("/decide", other)
    assert rows(out)["gpcr"].to_dict() == {"C00": "yes", "C01": "no", "C02": "unknown",
                                           "C03": "yes"}


def test_decisions_that_arrive_at_once_are_all_kept(start, out):
    client = Client(start())
    forms = [client.form(name, gpcr="no") for name in MOA]
    threads = [threading.Thread(target=client.ask, args=("/decide", form)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (rows(out)["gpcr"] == "no").all()


def test_two_servers_on_one_table_keep_each_others_decisions(start, out):
    one, two = Client(start("anna")), Client(start("ben"))
    one.ask("/decide", one.form("C00", gpcr="no"))
    two.ask("/decide", two.form("C01", gpcr="no"))
    assert rows(out)["curator"].to_dict() == {"C00": "anna", "C01": "ben", "C02": "", "C03": ""}


def test_a_decision_is_undone_in_its_own_tab_only(start, out):
    client = Client(start())
    before = out.read_bytes()
    form = client.form("C00", gpcr="no", tab="one")
    client.ask("/decide", form)
    client.ask("/undo", {"token": form["token"], "tab": "two"})
    assert rows(out).loc["C00", "gpcr"] == "no"
    client.ask("/undo", {"token": form["token"], "tab": "one"})
    assert out.read_bytes() == before


def test_a_decision_that_was_changed_since_is_not_undone(start, out):
    client = Client(start())
    form = client.form("C00", gpcr="no")
    client.ask("/decide", form)
    edit_csv(out, gpcr={0: "yes"}, curator={0: "carol"})
    client.ask("/undo", {"token": form["token"], "tab": "one"})
    assert rows(out).loc["C00", ["gpcr", "curator"]].tolist() == ["yes", "carol"]


def test_after_a_decision_the_next_open_question_is_shown_and_at_the_end_none(start):
    client = Client(start())
    for name in list(client.session.questions):
        answer, _ = client.ask("/decide", client.form(name, gpcr="unknown"))
    assert "compound=" not in answer.getheader("Location")
    assert b"All decided" in client.ask("/")[1]


def test_a_persons_decision_that_the_terms_contradict_is_reviewed_again(start, screen, out):
    client = Client(start())
    client.ask("/decide", client.form("C03", gpcr="no"))
    again = Client(start("ben"))
    assert "C03" in again.session.waiting(again.session.table())
    assert b"anna decided no, but the terms say yes (agonist)" in again.ask("/?compound=C03")[1]
    again.ask("/decide", again.form("C03", gpcr="no"))
    assert "C03" not in again.session.waiting(again.session.table())


def test_a_table_that_is_gone_is_an_error_in_words(start, out):
    client = Client(start())
    form = client.form("C00", gpcr="no")
    out.unlink()
    for answer, content in (client.ask("/"), client.ask("/decide", form)):
        assert answer.status == 409 and b"is gone" in content


# One question for several compounds


def test_one_answer_is_a_row_of_each_compound_and_is_undone_at_once(alike, start, out):
    client = Client(start())
    before = out.read_bytes()
    form = client.form("C00", gpcr="yes", action=["agonist"], all="1")
    answer, _ = client.ask("/decide", form)
    assert "Saved+C00+and+2+more" in answer.getheader("Location")
    assert "compound=C02" in answer.getheader("Location")
    decided = rows(out).loc[["C00", "C01", "C03"]]
    assert (decided["gpcr"] == "yes").all() and (decided["gpcr_action"] == "agonist").all()
    assert (decided["curator"] == "anna").all() and rows(out).loc["C02", "curator"] == ""
    answer, _ = client.ask("/undo", {"token": form["token"], "tab": "one"})
    assert "Undid+the+decision+on+C00+and+2+more" in answer.getheader("Location")
    assert out.read_bytes() == before
    assert client.session.waiting(client.session.table()) == list(client.session.questions)


def test_without_the_tick_one_compound_is_decided_and_the_others_still_share(alike, start, out):
    client = Client(start())
    assert b"all\n      3 with this term" in client.ask("/?compound=C00")[1]
    answer, _ = client.ask("/decide", client.form("C00", gpcr="no"))
    assert "compound=C03" in answer.getheader("Location")
    assert b"all\n      2 with this term" in client.ask("/?compound=C01")[1]
    client.ask("/decide", client.form("C01", gpcr="yes", all="1"))
    assert rows(out)["gpcr"].to_dict() == {"C00": "no", "C01": "yes", "C02": "unknown",
                                           "C03": "yes"}


def test_an_answer_for_all_is_refused_whole_when_one_was_decided_meanwhile(alike, start, out):
    client = Client(start())
    one = client.form("C00", gpcr="yes", all="1")
    alone = client.form("C01", gpcr="no")
    client.ask("/decide", client.form("C03", gpcr="no"))
    answer, _ = client.ask("/decide", one)
    assert "same+question+as+C00+has+been+decided" in answer.getheader("Location")
    assert rows(out)["curator"].to_dict() == {"C00": "", "C01": "", "C02": "", "C03": "anna"}
    # Two persons who divide a question do not hinder each other.
    client.ask("/decide", alone)
    assert rows(out).loc["C01", "gpcr"] == "no"


def test_undoing_an_answer_for_all_keeps_what_was_changed_since(alike, start, out):
    client = Client(start())
    form = client.form("C00", gpcr="no", all="1")
    client.ask("/decide", form)
    edit_csv(out, gpcr={1: "yes"}, curator={1: "carol"})
    answer, _ = client.ask("/undo", {"token": form["token"], "tab": "one"})
    assert "C01+has+been+changed" in answer.getheader("Location")
    assert rows(out)["curator"].to_dict() == {"C00": "", "C01": "carol", "C02": "", "C03": ""}


# Pictures


def test_a_compound_is_shown_on_all_its_plates_next_to_a_control_of_the_same_plate(
        screen):
    read = read_screen(screen)
    views = find_views(read, "C00")
    assert [view.plate for view in views[:2]] == ["Plate2", "Plate1"]  # 10 uM before 1 uM
    for view in views:
        layout = read.layout.set_index(["Metadata_Plate", "Metadata_Well"])
        assert layout.loc[(view.plate, view.control_well), "Metadata_Control"] == "negative"
        assert view.control == "DMSO"


def test_both_sides_are_scaled_by_the_same_limits(tmp_path):
    folder = make_screen(tmp_path, wells=4, compounds=2, effect=3.0, channels=("DNA",))
    screen = read_screen(folder)
    view = find_views(screen, "C01")[0]
    treated, control = (np.asarray(picture(render_view(screen, view, side)))
                        for side in (True, False))
    assert treated.max() > 250
    assert control.max() < 200  # its own limits would have made it as bright


def test_a_nucleus_is_blue_whatever_its_place_and_green_is_green():
    assert channel_colours(["Actin", "DAPI", "Tubulin"])[1] == channel_colours(["DNA"])[0]
    _, green, red = channel_colours(["Nucleus", "Green", "Red"])
    assert green[1] == max(green) and red[0] == max(red)
    assert len(set(channel_colours(["a", "b", "c", "d", "e"]))) == 5


def test_a_site_without_control_or_file_says_so_in_place_of_the_picture(start, screen):
    edit_csv(screen / "layout.csv", Metadata_Control="")
    client = Client(start())
    assert b"no negative control" in client.ask("/?compound=C00")[1]
    for file in (screen / "images").rglob("*.tif"):
        file.unlink()
    answer, content = client.ask("/picture?compound=C00&view=0&side=treated")
    assert answer.getheader("Content-Type") == "image/svg+xml" and b"is missing" in content
    view = find_views(read_screen(screen), "C00")[0]
    with pytest.raises(PlaneError, match="is missing"):
        render_view(read_screen(screen), view, True)


def picture(content):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(content))


# A real browser


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("console", lambda said: opened.problems.append(said.text))
    opened.on("requestfailed", lambda request: opened.problems.append(request.url))
    yield opened
    assert opened.problems == []
    context.close()


def press(page, key):
    with page.expect_navigation():
        page.keyboard.press(key)


def test_a_person_decides_all_with_the_keyboard_and_it_is_in_the_table(start, out, page):
    running = start()
    page.goto(running.site.address)
    assert "key=" not in page.url
    first = page.locator("h1").inner_text()
    press(page, "y")
    page.keyboard.press("o")
    page.keyboard.press("t")
    second = page.locator("h1").inner_text()
    press(page, "y")
    third = page.locator("h1").inner_text()
    press(page, "n")
    assert page.locator("h1").inner_text() == "All decided"
    written = rows(out)
    assert sorted((first, second, third)) == ["C00", "C01", "C02"]
    assert written.loc[[first, second, third], "gpcr"].tolist() == ["yes", "yes", "no"]
    assert written.loc[first, "gpcr_action"] == {"C01": "antagonist"}.get(first, "agonist")
    # t took back or added antagonist to what the words suggest; o added other.
    assert "other" in written.loc[second, "gpcr_action"]
    assert written.loc[third, "gpcr_action"] == ""
    assert (written.loc[[first, second, third], "curator"] == "anna").all()


def test_keys_skip_go_back_undo_and_change_the_channel(start, out, page):
    page.goto(start().site.address)
    names = [page.locator("h1").inner_text()]
    before = out.read_bytes()
    press(page, "ArrowRight")
    names.append(page.locator("h1").inner_text())
    press(page, "ArrowLeft")
    assert page.locator("h1").inner_text() == names[0] != names[1]
    press(page, "c")
    assert "channel=DNA" in page.url
    press(page, "u")
    assert rows(out).loc[names[0], "curator"] == "anna"
    press(page, "z")
    assert page.locator("h1").inner_text() == names[0]
    assert out.read_bytes() == before


def test_a_term_is_answered_once_with_the_keyboard_and_undone(alike, start, out, page):
    page.goto(start().site.address)
    before = out.read_bytes()
    assert page.get_by_text("Question 1 of 2").is_visible()
    assert page.get_by_text("3 compounds wait for this answer").is_visible()
    assert page.get_by_role("checkbox", name="all 3 with this term").is_checked()
    press(page, "y")
    assert "and 2 more: yes (agonist)" in page.get_by_role("status").inner_text()
    assert rows(out)["curator"].to_dict() == {"C00": "anna", "C01": "anna", "C02": "",
                                              "C03": "anna"}
    assert page.locator("h1").inner_text() == "C02"
    assert page.get_by_role("checkbox", name="with this term").count() == 0
    press(page, "z")
    assert out.read_bytes() == before
    page.keyboard.press("s")
    press(page, "n")
    assert sorted(rows(out)["curator"]) == ["", "", "", "anna"]
    page.get_by_role("link", name="C03", exact=True).first.click()
    page.wait_for_url("**compound=C03*")
    assert page.get_by_role("checkbox", name="all 2 with this term").is_checked()


def test_letters_typed_into_the_search_field_decide_nothing(start, out, page):
    page.goto(start().site.address)
    before = out.read_bytes()
    page.get_by_label("Find a compound").fill("C03")
    page.keyboard.type("ynu")
    assert out.read_bytes() == before
    page.get_by_label("Find a compound").fill("C03")
    press(page, "Enter")
    assert page.locator("h1").inner_text() == "C03"


def test_a_second_tab_shows_what_the_first_decided(start, out, page):
    running = start()
    page.goto(running.site.address)
    name = page.locator("h1").inner_text()
    other = page.context.new_page()
    other.goto(f"http://127.0.0.1:{running.site.port}/?compound={name}")
    press(page, "y")
    with other.expect_navigation():
        other.keyboard.press("n")
    assert "has been changed in the meantime, to yes" in other.get_by_role("status").inner_text()
    assert rows(out).loc[name, "gpcr"] == "yes"


def test_every_picture_is_there_and_named(start, page):
    page.goto(start().site.address, wait_until="networkidle")
    pictures = page.locator("figure img")
    assert pictures.count() >= 4
    widths = pictures.evaluate_all("all => all.map(one => one.naturalWidth)")
    assert all(width == 80 for width in widths)
    assert all("plate Plate" in name for name in
               pictures.evaluate_all("all => all.map(one => one.alt)"))


def test_the_page_works_by_clicks_without_a_script(start, out, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(start().site.address)
    name = page.locator("h1").inner_text()
    page.get_by_role("button", name="Not GPCR").click()
    page.get_by_text(f"Saved {name}: no.").wait_for()
    assert rows(out).loc[name, "gpcr"] == "no"
    context.close()


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out_of_the_window_and_what_decides_is_in_sight(start, screen, page, width):
    long = "a-compound-with-a-name-that-nobody-could-write-on-a-tube-" * 3
    for table in ("layout.csv", "annotations.csv"):
        names = pd.read_csv(screen / table, dtype=str, keep_default_na=False)
        names.replace({"C00": long}).to_csv(screen / table, index=False)
    page.set_viewport_size({"width": width, "height": 800})
    running = start()
    page.goto(running.site.address)
    page.goto(f"http://127.0.0.1:{running.site.port}/?compound={long}&note={'note' * 99}")
    assert page.locator("h1").inner_text() == long
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("GPCR", "Not GPCR", "Unknown"):
        button = page.get_by_role("button", name=re.compile(f"^{name}")).bounding_box()
        assert button["x"] >= 0 and button["x"] + button["width"] <= width
        assert button["y"] + button["height"] <= 800
