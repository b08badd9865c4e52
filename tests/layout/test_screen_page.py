"""A screen's own page: what it says is so, and no screen is too odd for it."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from helpers import Page, edit_csv, make_screen
from typer.testing import CliRunner

from moascope.features.table import load_quality
from moascope.layout.facts import screen_facts
from moascope.layout.page import render_screen_page, write_screen_page
from moascope.layout.wells import well_table
from moascope.layout.words import findings, verdict
from moascope.learning.dealing import assign_folds, deal
from moascope.learning.leaks import plane_rows
from moascope.params import Split
from moascope.screen import reading
from moascope.screen.columns import SITE
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen


def write_page(folder, out, target="gpcr", folds=2, **options):
    screen = read_screen(folder)
    labels = label_screen(screen, target)
    groups = assign_folds(labels.groups, folds, 2, 0.0, 0)
    content = write_screen_page(out, screen, labels, groups, options.pop("description", {}), 0,
                                permutations=30, **options)
    return content, Page((out / "screen.html").read_text())


def lacking(content):
    return {one["name"]: one["count"] for one in content["screen"]["missing"] if one["count"]}


def test_the_page_stands_alone_and_says_what_there_is(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=4, wells=20, compounds=8, controls=4,
                         batches=2, panels=("A549", "HepG2"), images=False)
    content, page = write_page(folder, tmp_path / "out")
    assert all(address.startswith(("#", "data:")) for address in page.loads)
    assert not page.links
    assert "script" not in page.tags
    assert "160 image fields in 80 wells on 4 plates of 96 wells, in 2 channels" in page.text
    facts = content["screen"]
    assert (facts["plates"], facts["wells"], facts["sites"], facts["planes"]) == (4, 80, 160, 320)
    assert facts["compounds"] == 8
    assert facts["classes"] == {"not_gpcr": 4, "gpcr": 4}
    assert [row["panel"] for row in facts["panels"]] == ["A549", "HepG2"]
    assert all(row["classes"]["gpcr"] == 4 for row in facts["panels"])
    assert all(row["fewest_controls"] == row["most_controls"] == 4 for row in facts["panels"])
    receptor, = facts["mechanisms"]
    assert (receptor["mechanism"], receptor["units"], receptor["antagonist"]) == (
        "histamine receptor", 4, 4)
    assert [row["uM"] for row in facts["doses"]] == [1.0, 10.0]


def test_equal_screens_give_equal_bytes_and_sorted_numbers(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=2, wells=12, images=False)
    for name in ("one", "two"):
        write_page(folder, tmp_path / name)
    assert (tmp_path / "one/screen.html").read_bytes() == (
        tmp_path / "two/screen.html").read_bytes()
    text = (tmp_path / "one/screen.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "NaN" not in text


def test_a_page_drawn_from_the_file_is_the_page_drawn_from_the_measurement(tmp_path):
    """JSON sorts the classes, and the hits were once those of the other class."""
    folder = make_screen(tmp_path / "screen", plates=2, wells=12, images=False)
    write_page(folder, tmp_path / "out")
    screen = read_screen(folder)
    labels = label_screen(screen, "gpcr")
    content = json.loads((tmp_path / "out/screen.json").read_text())
    again = render_screen_page(content, labels, well_table(screen, labels),
                               assign_folds(labels.groups, 2, 2, 0.0, 0), 0, 30)
    assert again == (tmp_path / "out/screen.html").read_text()
    assert "not GPCR: compounds" not in again


def test_what_is_missing_is_counted_and_named(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=3, wells=12, compounds=6, controls=2,
                         panels=("A549", "A549", "HepG2"), images=False)
    sites = pd.read_csv(folder / "load_data.csv", dtype=str, keep_default_na=False)
    # A well without any image, and one with a single one of two.
    sites = sites[~((sites["Metadata_Plate"] == "Plate1") & (sites["Metadata_Well"] == "B02"))]
    sites = sites.drop(sites.index[(sites["Metadata_Well"] == "B03")][0])
    sites.to_csv(folder / "load_data.csv", index=False)
    layout = pd.read_csv(folder / "layout.csv", dtype=str, keep_default_na=False)
    third = layout["Metadata_Plate"] == "Plate3"
    layout.loc[third & (layout["Metadata_Control"] != ""), "Metadata_Compound"] = "New"
    layout.loc[third, "Metadata_Control"] = ""
    layout.to_csv(folder / "layout.csv", index=False)
    edit_csv(folder / "annotations.csv", gpcr={0: "unknown"})
    quarantine = read_screen(folder).sites[SITE].head(3)
    content, page = write_page(folder, tmp_path / "out", quarantine=quarantine,
                               failed=quarantine.head(1))
    assert lacking(content) == {
        "wells_without_images": 1, "wells_with_fewer_sites": 1, "sites_quarantined": 3,
        "sites_failing_quality_control": 1, "compounds_without_annotation": 1,
        "compounds_of_unknown_class": 1, "compounds_without_inchikey": 6,
        "compounds_not_on_every_panel": 1, "wells_without_concentration": 2,
        "plates_without_negative_controls": 1, "panels_without_negative_controls": 1}
    missing = {one["name"]: one for one in content["screen"]["missing"]}
    assert missing["wells_without_images"]["examples"] == ["Plate1 B02"]
    assert missing["compounds_without_annotation"]["examples"] == ["New"]
    assert "Wells without an image" in page.text
    assert "Plate1 B02" in page.text


def test_a_screen_without_controls_batches_or_panels_has_a_page(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=1, wells=8, controls=0, images=False)
    edit_csv(folder / "load_data.csv", Metadata_Batch="", Metadata_Panel="")
    content, page = write_page(folder, tmp_path / "out")
    assert "This screen has none, so values are used as measured." in page.text
    assert "Not measurable: the screen has no negative controls." in page.text
    assert "Not measurable: the screen has a single batch." in page.text
    assert content["screen"]["batches"] == []


def test_one_compound_against_controls_has_a_page_that_says_so(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=2, wells=20, compounds=1, controls=8,
                         images=False)
    content, page = write_page(folder, tmp_path / "out", target="moa", folds=3)
    assert content["screen"]["unit"] == "well"
    assert content["screen"]["compounds"] == content["screen"]["compounds_with_label"] == 1
    assert "nothing can be said about unseen compounds" in page.text


@pytest.mark.parametrize("well", ["P24", "AF48"])
def test_plates_of_384_and_1536_wells_are_drawn_in_their_format(tmp_path, well):
    folder = make_screen(tmp_path / "screen", wells=12, images=False)
    for name in ("load_data.csv", "layout.csv"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("B02,", f"{well},"))
    content, page = write_page(folder, tmp_path / "out")
    size = {"P24": "384", "AF48": "1536"}[well]
    assert content["screen"]["plate_formats"] == {size: 1}
    assert f"Plates of {int(size):,} wells" in page.text


def test_names_from_tables_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>{{ 7*7 }}$x^2$"
    folder = make_screen(tmp_path / "screen", plates=2, wells=12, panels=(evil,), images=False,
                         annotations={"C00": f"{evil} receptor antagonist", "C01": "b",
                                      "C02": "c", "C03": f"d {evil}"})
    edit_csv(folder / "layout.csv", Metadata_Compound={3: evil})
    _, page = write_page(folder, tmp_path / "out", target="moa",
                         description={"source": evil, "citation": evil})
    assert "script" not in page.tags
    assert "{{ 7*7 }}" in page.text


def confound(name, value, p=None, **other):
    null = {"mean": 0.2, "low": 0.1, "high": 0.3}
    return {"name": name, "value": value, "null": null, **({"p": p} if p else {}), **other}


def test_one_small_p_among_several_measures_is_a_hint_and_not_a_finding():
    screen = {"classes": {"rest": 9, "hit": 3}, "unit": "compound", "panels": []}
    names = ("position_predicts_class", "plate_predicts_class")
    for p, states in ((0.03, ["hint", "none"]), (0.01, ["found", "none"])):
        content = {"screen": screen, "target": "hit", "confounds": [
            confound(names[0], 0.5, p, units=12, prevalence=0.25),
            confound(names[1], 0.2, 0.4, units=12, prevalence=0.25)]}
        assert [one.state for one in findings(content)] == states
    assert verdict(findings(content)) == ("part", "This layout confounds position with class.")


def test_without_a_finding_the_verdict_claims_no_more_than_was_measured():
    screen = {"classes": {"rest": 9, "hit": 3}, "unit": "compound", "panels": []}
    content = {"screen": screen, "target": "hit", "confounds": [
        confound("plate_predicts_class", 0.2, 0.4, units=12, prevalence=0.25),
        {"name": "dose_by_column", "value": None, "why_not": "the screen has a single dose"}]}
    kind, sentence = verdict(findings(content))
    assert kind == "yes"
    assert sentence == ("No confound was found among those that can be measured on this layout.")
    content["confounds"] = content["confounds"][1:]
    assert verdict(findings(content))[0] == "none"


def test_the_page_of_a_layout_needs_no_image(tmp_path):
    from moascope.cli.app import app

    folder = make_screen(tmp_path / "screen", plates=2, wells=12, images=False)
    done = CliRunner().invoke(app, ["layout", "--screen", str(folder), "--out",
                                    str(tmp_path / "out"), "--target", "gpcr"])
    assert done.exit_code == 0, done.output
    assert "The layout of 24 wells is shown in" in done.output
    assert (tmp_path / "out/screen.html").exists()


def test_agonists_and_antagonists_of_a_receptor_are_one_family(tmp_path):
    folder = make_screen(tmp_path / "screen", wells=12, images=False, annotations={
        "C00": "Dopamine receptor agonist", "C01": "Dopamine receptor partial_agonist",
        "C02": "Dopamine receptor antagonist|mAChR antagonist_stabilizer", "C03": "kinase"})
    edit_csv(folder / "annotations.csv", gpcr={0: "yes", 1: "yes", 2: "yes", 3: "no"})
    screen = read_screen(folder)
    labels = label_screen(screen, "gpcr")
    from moascope.layout.wells import well_table

    none = pd.DataFrame(columns=SITE)
    facts = screen_facts(screen, labels, well_table(screen, labels), labels.groups, none, none)
    dopamine, muscarinic = facts["mechanisms"]
    assert (dopamine["mechanism"], dopamine["units"], dopamine["agonist"],
            dopamine["antagonist"]) == ("Dopamine receptor", 3, 2, 1)
    assert (muscarinic["mechanism"], muscarinic["antagonist"]) == ("mAChR", 1)


# What the size of a real screen asks of the tables and of split


AWKWARD = [
    ("", "images/a.tif"), ("", "./images//a.tif"), ("images", "a.tif"), ("images/", "a.tif"),
    ("images\\", "sub\\a.tif"), ("images/../images", "a.tif"), ("", ""), ("images", ""),
    ("https://host/a/", "b.tif"), ("images", "https://host/a\\b.tif"), ("", "images/a.tif/"),
    ("", "images/.hidden"), ("images", "../images/b.tif"),
]


@pytest.mark.parametrize(("path", "file"), AWKWARD)
def test_a_name_read_among_many_is_the_name_read_alone(tmp_path, path, file):
    folder = make_screen(tmp_path / "screen", wells=4, images=False)
    edit_csv(folder / "load_data.csv", FileName_DNA={2: file}, PathName_DNA="")
    edit_csv(folder / "load_data.csv", PathName_DNA={2: path})
    found = read_screen(folder, allow_outside=True).sites["FileName_DNA"][2]
    expected = file if "://" in file or not file else (
        f"{path.rstrip('/')}/{file}" if "://" in path
        else re.sub(r"/$", "", _normal(f"{path}/{file}".replace("\\", "/").lstrip("/"))))
    assert found == expected


def _normal(name):
    parts = []
    for part in name.split("/"):
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def test_a_plain_table_reads_as_the_reader_of_odd_ones_reads_it(tmp_path, monkeypatch):
    folder = make_screen(tmp_path / "screen", plates=2, wells=8, images=False)
    edit_csv(folder / "annotations.csv", Metadata_MoA={0: 'a, b "quoted" receptor antagonist',
                                                       1: " µ-opioid | x "})
    quick = read_screen(folder)
    monkeypatch.setattr(reading, "_read_plain", lambda name, content: None)
    careful = read_screen(folder)
    for name in ("sites", "layout", "annotations"):
        pd.testing.assert_frame_equal(getattr(quick, name), getattr(careful, name))
    assert quick.warnings == careful.warnings


@pytest.mark.parametrize("odd", ["a,b\n1,2\n\n3,4\n", "a,b\n1,2\n,\n", "a,b\n1\n", "a,a\n1,2\n",
                                 'a,b\n1,"x\ny"\n', "a,b\r1,2\r", "a,\n1,2\n", "a,b\n",
                                 "\na,b\n1,2\n"])
def test_a_table_with_anything_odd_gets_a_closer_look(odd):
    assert reading._read_plain("x.csv", odd.encode()) is None


def test_a_plain_table_keeps_the_lines_it_came_from():
    read = reading._read_plain("x.csv", b'\xef\xbb\xbfa;b\r\n1;"x ""y"", z"\r\n3;ab"c')
    assert read.rows.to_dict("list") == {"a": ["1", "3"], "b": ['x "y", z', 'ab"c']}
    assert read.lines.tolist() == [2, 3]
    assert read.delimiter == ";"


def test_split_learns_what_passed_without_reading_features(tmp_path, monkeypatch):
    for plate in ("P1", "P2"):
        (tmp_path / "Morphology" / plate).mkdir(parents=True)
        pd.DataFrame({"Metadata_Plate": plate, "Metadata_Well": "B02", "Metadata_Site": [1, 2],
                      "QC_Pass": [True, False], "Feature": [0.1, 0.2]}).to_parquet(
            tmp_path / "Morphology" / plate / "features.parquet")
    asked = []
    read = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet",
                        lambda path, columns: asked.extend(columns) or read(path, columns=columns))
    found = load_quality(tmp_path)
    assert found["QC_Pass"].tolist() == [True, False, True, False]
    assert "Feature" not in asked


def test_planes_of_dealt_compounds_are_those_that_are_not_blank(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=2, wells=12, compounds=8, images=False)
    screen = read_screen(folder)
    labels = label_screen(screen, "gpcr")
    dealt = deal(labels, screen.sites, Split(folds=3, holdout=0.0), 0)
    facts = screen.sites[["Metadata_Plate", "Metadata_Well", "FileName_DNA"]].rename(
        columns={"FileName_DNA": "FileName"}).assign(Blank=False)
    facts.loc[facts["Metadata_Well"] == "C02", "Blank"] = True
    manifest = facts[["FileName"]].assign(SHA256=[f"s{i}" for i in range(len(facts))])
    rows = plane_rows(facts, manifest, dealt, "compound")
    treated = screen.layout[screen.layout["Metadata_Control"] == ""]
    assert set(rows["Metadata_Well"]) == set(treated["Metadata_Well"]) - {"C02"}
    assert len(rows) == 2 * (len(treated) - 2)
    assert {"Fold_0", "Fold_1", "Holdout", "SHA256", "Metadata_Compound"} <= set(rows)
