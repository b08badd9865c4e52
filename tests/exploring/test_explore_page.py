"""The local page to look at a screen: what it refuses, what it shows, and that keys work on it."""

import csv
import io
import re
from urllib.parse import quote, urlencode

import numpy as np
import pytest
import tifffile
from PIL import Image

PICTURE = {"plate": "Plate1", "well": "B02", "site": "1"}


def picture(client, **asked):
    answer, content = client.ask("/picture?" + urlencode({**PICTURE, **asked}, doseq=True))
    return answer, content


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


# What it refuses


def test_another_host_and_a_missing_key_are_refused(client):
    assert client.ask("/", Host="evil.example")[0].status == 421
    client.cookie = ""
    for path in ("/", "/plate", "/picture?" + urlencode(PICTURE), "/export.csv",
                 "/report/report.html"):
        assert client.ask(path)[0].status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent(client, method):
    assert client.ask("/", {"token": "x"}, method)[0].status == 403
    assert client.ask("/export.csv", {"token": client.site.token}, method)[0].status == 405


@pytest.mark.parametrize("path", [
    "/picture", "/picture?plate=..%2F..%2Fetc&well=B02&site=1",
    "/picture?plate=Plate1&well=..%2F..%2Fpasswd&site=1", "/picture?plate=Plate1&well=B02&site=9",
    "/picture?plate=Plate1&well=B02&site=-1", "/picture?plate=Plate1&well=B02&site=1&low=nan",
    "/picture?plate=Plate1&well=B02&site=1&low=50&high=50",
    "/picture?plate=Plate1&well=B02&site=1&high=101", "/plate?plate=none", "/compound?name=none",
    "/compound", "/report/..%2F..%2Fdata%2Facquire%2Flayout.csv", "/report/metrics.json",
    "/data/acquire/layout.csv"])
def test_what_is_not_there_is_not_found(client, path):
    assert client.ask(path)[0].status == 404


@pytest.mark.parametrize("path", ["/?page=99999&box=a,b,c,d&colour=x", "/?box=nan,nan,nan,nan",
                                  "/?page=-1&q=%00%F0", "/plate?well=%3Cscript%3E&site=x",
                                  "/compound?name=C00&page=7"])
def test_odd_questions_get_an_ordinary_page(client, path):
    answer, content = client.ask(path)
    assert answer.status == 200 and b"<script>" not in content


# What it shows


def test_a_picture_has_every_pixel_of_its_planes_and_is_sent_once(client, project):
    answer, content = picture(client)
    assert answer.getheader("Content-Type") == "image/png"
    assert pixels(content).shape == (40, 50, 3)
    tag = answer.getheader("ETag")
    again, nothing = client.ask("/picture?" + urlencode(PICTURE), If_None_Match=f'"x", {tag}')
    assert again.status == 304 and nothing == b"" and again.getheader("ETag") == tag
    assert picture(client, low="10")[0].getheader("ETag") != tag


def test_one_channel_is_grey_and_percentiles_are_dark_and_bright(client, project):
    _, content = picture(client, channel="DNA", low="10", high="90")
    plane = tifffile.imread(project / "data/acquire/images/Plate1/B02_s1_DNA.tif").astype(float)
    low, high = np.percentile(plane.ravel()[::7], [10, 90])
    assert np.abs(pixels(content) - np.clip((plane - low) / (high - low), 0, 1) * 255).max() <= 1


def test_both_wells_of_a_pair_have_one_scale(client, project):
    """Limits are over both, so they are the same whichever is shown."""
    planes = [tifffile.imread(project / f"data/acquire/images/Plate1/{well}_s1_DNA.tif")
              for well in ("B02", "B03")]
    low, high = np.percentile(np.concatenate([plane.ravel()[::7] for plane in planes]), [0.5, 99.8])
    for plane, well, beside in zip(planes, ("B02", "B03"), ("B03", "B02"), strict=True):
        shown = pixels(picture(client, well=well, beside=beside, channel="DNA")[1])
        assert np.abs(shown - np.clip((plane - low) / (high - low), 0, 1) * 255).max() <= 1


def test_a_small_picture_is_averaged_down(client):
    assert pixels(picture(client, side="32")[1]).shape == (26, 32, 3)


def test_a_plane_that_is_gone_is_a_sentence_in_place_of_the_picture(client, project):
    file = project / "data/acquire/images/Plate2/B03_s2_DNA.tif"
    kept = file.read_bytes()
    file.unlink()
    try:
        answer, content = picture(client, plate="Plate2", well="B03", site="2")
        assert answer.getheader("Content-Type") == "image/svg+xml" and b"is missing" in content
    finally:
        file.write_bytes(kept)
    assert picture(client, plate="Plate2", well="B03", site="2")[0].getheader(
        "Content-Type") == "image/png"


def test_a_compound_shows_its_neighbours_activity_prediction_and_wells(client):
    page = client.ask("/compound?name=C00")[1].decode()
    assert "active (mean average precision 0.900, corrected p 0.002)" in page
    assert "<b>GPCR</b>, probability 0.90 (out of fold)" in page
    assert page.index("name=C02") < page.index("name=C01")
    assert page.count("Negative control") == 4  # Two wells, each in an alt text and a caption.
    assert '<a href="/report/report.html">' in page
    assert "leaves its noise at 1.5 µM (point of departure; 90 % interval 0.9 to 2.2 µM)" in page
    tricky = client.ask("/compound?name=" + quote('<b>"C05'))[1].decode()
    assert "&lt;b&gt;&#34;C05" in tricky and '<b>"C05' not in tricky


def test_a_report_is_shown_in_a_sandbox(client):
    answer, content = client.ask("/report/report.html")
    assert content.startswith(b"<p><a data-compound=")
    policy = answer.getheader("Content-Security-Policy")
    assert policy.endswith("sandbox allow-scripts") and "connect-src" not in policy


def test_a_compound_says_what_its_prediction_rests_on_or_why_that_is_not_known(client):
    page = client.ask("/compound?name=C00")[1].decode()
    assert "log-odds of <b>GPCR</b>" in page and "the model of the fold that left C00 out" in page
    assert page.index("<td>DNA</td>") < page.index("<td>Actin</td>")
    assert "−0.25" in page and "Probability without" not in page
    final = client.ask("/compound?name=" + quote('<b>"C05'))[1].decode()
    assert "Probability without" in final and "that left" not in final
    assert 'not annotated; <a href="/report/predictions.html#%3Cb%3E%22C05"' in final
    said = {"C01": "held-out compounds belong to no fold", "C03": "Nothing is predicted of C03"}
    for name, sentence in said.items():
        assert sentence in client.ask(f"/compound?name={name}")[1].decode()


def test_the_curve_is_drawn_and_the_map_is_that_of_the_report(client):
    answer, content = client.ask("/curves.svg?name=C00")
    assert answer.getheader("Content-Type") == "image/svg+xml" and b"<script" not in content
    assert answer.getheader("Content-Security-Policy").endswith("sandbox")
    answer, content = client.ask("/map.jpg?" + urlencode({"name": '<b>"C05'}))
    assert answer.getheader("Content-Type") == "image/jpeg" and pixels(content).shape == (96, 96)
    # One dose is not a curve, and its model was not asked.
    for path in ("/curves.svg?name=C01", "/curves.svg", "/map.jpg?name=C00"):
        assert client.ask(path)[0].status == 404


def test_names_are_exported_as_they_are_and_only_those_that_are_asked_for(client):
    answer, content = client.ask("/export.csv?mechanism=tubulin+inhibitor")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["Metadata_Compound"] for row in rows] == ["=C04", "C01"]
    assert rows[1]["Prediction"] == "not GPCR" and float(rows[1]["Probability"]) == 0.75
    assert 'filename="compounds.csv"' in answer.getheader("Content-Disposition")
    _, content = client.ask("/export.csv?mechanism=tubulin+inhibitor&compound=C03&compound=none")
    assert [row["Metadata_Compound"] for row in csv.DictReader(io.StringIO(content.decode()))
            ] == ["C03"]


# A real browser


@pytest.fixture
def page(browser, served):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("console", lambda said: opened.problems.append(said.text))
    opened.set_default_timeout(15_000)
    opened.goto(served.address)
    yield opened
    assert opened.problems == []
    context.close()


WIDTH = "one => { one.loading = 'eager'; return one.decode().then(() => one.naturalWidth) }"


def loaded(page):
    return page.locator(".pair img").evaluate_all(
        "all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))")


def shows(image, part):
    from playwright.sync_api import expect

    expect(image).to_have_attribute("src", re.compile(part))


def test_a_click_on_a_well_shows_its_pictures_and_channels_change_them(page, served):
    page.get_by_role("link", name="Plates").click()
    page.locator("#wells a", has_text="N").first.wait_for()
    page.locator("#wells a[aria-label^='C03:']").click()
    assert loaded(page) == [50, 50]
    image = page.locator(".pair img").first
    shows(image, "channel=DNA&channel=Actin&")
    page.get_by_label("Actin").uncheck()
    shows(image, "^(?!.*Actin).*channel=DNA")
    page.get_by_label("Bright above percentile").fill("90")
    shows(image, "high=90$|high=90&")
    page.get_by_label("Image", exact=True).select_option("2")
    shows(image, "site=2")
    assert loaded(page) == [50, 50]


def test_arrow_keys_move_over_the_plate_and_enter_opens_a_well(page, served):
    page.goto(f"http://127.0.0.1:{served.port}/plate?plate=Plate2&colour=cells")
    page.locator("#wells a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("C03")
    assert page.locator("#wells a[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    page.locator("#well").wait_for()
    assert page.url.endswith("well=C03#well")


def test_arrow_keys_move_through_the_list_and_enter_opens_a_compound(page):
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    name = page.evaluate("document.activeElement.dataset.name")
    assert name == "=C04" and page.locator("#tip").is_visible()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="=C04", exact=True).wait_for()


def test_search_filter_and_export(page):
    page.get_by_label("Find a compound or mechanism").fill("c0")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="6 compounds").wait_for()
    page.get_by_label("Prediction", exact=True).select_option("not GPCR")
    page.get_by_role("heading", name="2 compounds").wait_for()
    with page.expect_download() as told:
        page.get_by_role("button", name="Export CSV").click()
    with told.value.path().open(newline="") as file:
        assert [row["Metadata_Compound"] for row in csv.DictReader(file)] == ["=C04", "C01"]
    page.get_by_role("link", name="Show all").click()
    page.get_by_role("heading", name="7 compounds").wait_for()


def test_a_report_leads_to_its_compounds_and_they_lead_to_their_map(page, served):
    page.goto(f"http://127.0.0.1:{served.port}/report/report.html")
    assert page.get_by_text("another").get_attribute("href") is None
    page.get_by_role("link", name="The hit").click()
    page.get_by_role("heading", name='<b>"C05', exact=True).wait_for()
    assert page.locator("figure.speaks img").evaluate(WIDTH) == 96


def test_the_curve_of_a_compound_is_a_picture(page, served):
    page.goto(f"http://127.0.0.1:{served.port}/compound?name=C00")
    assert page.locator("figure.curves img").evaluate(WIDTH) > 100


def test_a_click_on_a_point_opens_its_compound_and_a_drag_lists_a_part(page, explorer):
    frame = page.locator("#map").bounding_box()
    table = explorer.finder.table.set_index("Metadata_Compound")

    def at(x, y):
        return (frame["x"] + 14 + x * (frame["width"] - 28),
                frame["y"] + 14 + y * (frame["height"] - 28))

    page.mouse.move(*at(-0.01, -0.01))
    page.mouse.down()
    page.mouse.move(*at(1.01, 1.01), steps=4)
    page.mouse.up()
    page.get_by_text("part of the map", exact=True).wait_for()
    page.get_by_role("heading", name="7 compounds").wait_for()
    page.mouse.click(*at(*table.loc["C03", ["X", "Y"]]))
    page.get_by_role("heading", name="C03", exact=True).wait_for()


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out_of_the_window(page, served, width):
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/plate?well=B02", "/compound?name=C00"):
        page.goto(f"http://127.0.0.1:{served.port}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert re.search("Reports", page.content())


def test_every_control_has_a_name_and_classes_have_shapes_or_letters(page, served):
    for path in ("/", "/plate?well=B02"):
        page.goto(f"http://127.0.0.1:{served.port}{path}")
        assert page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, button, a')]"
            ".filter(one => !(one.labels?.length || one.getAttribute('aria-label') || "
            "one.textContent.trim() || one.querySelector('img')?.alt)).map(one => one.outerHTML)"
        ) == []
    letters = page.locator(".legend .swatch").all_inner_texts()
    assert len(set(letters)) == len(letters)
