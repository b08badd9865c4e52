"""A screen of profiles from its table to the report, the gate and predictions, without an image."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import ROOT, Page
from profiled import make_profiles

from moascope.errors import MoascopeError
from moascope.features import disk
from moascope.learning.model import read_model
from moascope.learning.predictor import predict_screen, screen_features
from moascope.metrics import null_mean
from moascope.params_file import parse_params
from moascope.screen.rows import screen_from_rows
from moascope.screen.tables import read_screen

pytestmark = pytest.mark.timeout(400)


def parameters(folder: Path, **more):
    return parse_params({
        "acquire": {"source": "folder", "path": str(folder)}, "target": "gpcr",
        "embed": {"backbone": "profiles"}, "split": {"folds": 3, "repeats": 1},
        "tune": {"trials": 0}, "evaluate": {"bootstraps": 100, "permutations": 100, "refits": 1},
        "promote": {"resamples": 100}} | more)


def run(stage, params, **matrix):
    """Call a stage as dvc.yaml does, in the working folder; returns its sentence."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    words = pipeline[stage]["cmd"].split()[3:]
    paths = {option.removeprefix("--").replace("-", "_"): Path(
                 value.replace("${item.arm}", matrix.get("arm", "")))
             for option, value in zip(words[::2], words[1::2], strict=True)}
    with warnings.catch_warnings():
        # MLflow comments on the type hints of the model that it loads from code.
        warnings.simplefilter("ignore", UserWarning)
        return getattr(importlib.import_module(f"moascope.stages.{stage}"), stage)(params, **paths)


def with_structures(path: Path) -> None:
    """Give every compound a SMILES: amines and acids with chains; one that RDKit refuses."""
    table = pd.read_csv(path, keep_default_na=False)
    table["Metadata_SMILES"] = [
        "C" * (1 + number // 2) + ("N(C)Cc1ccccc1" if number % 2 else "OC(=O)c1ccccc1")
        for number in range(len(table))]
    table.loc[5, "Metadata_SMILES"] = "C1CC"
    table.to_csv(path, index=False)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which every stage has run on profiles, and what each said."""
    home = tmp_path_factory.mktemp("project")
    make_profiles(home / "my", plates=3, compounds=24, features=60)
    with_structures(home / "my" / "annotations.csv")
    before = Path.cwd()
    os.chdir(home)
    try:
        subprocess.run(["git", "init", "-q"], check=True)
        said = {stage: run(stage, parameters(home / "my"), arm="scratch") for stage in (
            "acquire", "validate", "prepare", "embed", "split", "activity", "tune", "train",
            "evaluate", "report", "register", "baseline")}
        yield home, said
    finally:
        os.chdir(before)


@pytest.mark.parametrize("kind", ["trees", "network"])
def test_the_whole_pipeline_ends_well_whatever_kind_of_model_there_is(ran, kind, monkeypatch):
    home, _ = ran
    monkeypatch.chdir(home)
    path = home / "reports/evaluate/metrics.json"
    before = path.read_text()
    metrics = json.loads(before)
    metrics["head"]["head"] = kind
    path.write_text(json.dumps(metrics))
    try:
        said = run("compare", parameters(home / "my", baseline={"arms": ["scratch"]}))
    finally:
        path.write_text(before)
    assert said.startswith("0 of 1 arms")
    table = pd.read_csv(home / "reports/baseline/results.csv")
    assert table["parameters"].notna().iloc[-1] == (kind == "network")
    assert table["ap_compounds"].iloc[-1] == pytest.approx(
        metrics["out_of_fold"]["compound"]["average_precision"], abs=1e-6)
    assert (home / "reports/baseline/curves.png").read_bytes().startswith(b"\x89PNG")


def test_stages_without_pictures_say_so(ran):
    home, said = ran
    assert said["acquire"] == "96 sites on 3 plates, profiles of 60 features"
    assert said["validate"].startswith("96 of 96 sites usable; 0 quarantined; 1 warning, see ")
    warned = json.loads((home / "reports/validate/validation.json").read_text())["warnings"]
    assert [word.split(". ")[0] for word in warned] == [
        "RDKit cannot read the structure of 1 compound: C05 ('C1CC')"]
    assert said["prepare"] == "nothing to prepare: the screen has profiles and no images"
    assert said["baseline"] == "scratch: not run: the screen has profiles and no images."
    assert (home / "reports/prepare/montage.png").is_file()
    audit = json.loads((home / "reports/split/audit.json").read_text())
    assert audit["checked_disjoint"]["profiles"] == 72


def test_a_strong_signal_in_the_profiles_is_found_in_unseen_compounds(ran):
    home, _ = ran
    metrics = json.loads((home / "reports/evaluate/metrics.json").read_text())
    assert metrics["backbone"] == "profiles"
    assert metrics["out_of_fold"]["compound"]["average_precision"] > 0.9
    assert metrics["baselines"]["scores"]["position_only"]["average_precision"] < 0.9
    assert "cell_count" not in metrics["baselines"]["scores"]


def test_structure_is_scored_on_the_same_folds_and_stands_in_the_report(ran):
    home, _ = ran
    metrics = json.loads((home / "reports/evaluate/metrics.json").read_text())
    unseen = metrics["out_of_fold"]["compound"]["compounds"]
    assert metrics["chemistry"]["compounds"] + metrics["chemistry"]["without_structure"] == unseen
    assert set(metrics["chemistry"]["refused"]) <= {"C05"}
    for name in ("chemistry", "chemistry_simple"):
        score = metrics["baselines"][name]
        assert score["average_precision"] > 0.9
        assert score["average_precision"] == (
            metrics["baselines"]["scores"][name]["average_precision"])
        assert score["both_minus_structure"]["low"] <= score["both_minus_structure"]["high"]
    page = Page((home / "reports/report/report.html").read_text())
    assert "with a structure" in page.text
    assert "Structure only is shown for comparison" in page.text


def test_the_gate_may_ask_for_more_than_structure_tells(ran):
    from moascope.promotion.promote import promote

    home, _ = ran
    asked = parameters(home / "my", promote={
        "resamples": 100, "beat": ["chemistry", "chemistry_simple"]})
    record = promote(asked, home / "data", home / "reports/promote", "staging", None, None, False,
                     True)
    lines = {line["name"]: line for line in record["requirements"]}
    assert lines["more than chemistry simple"]["limit"] > 0.5
    assert "which sees the structure alone, reaches" in lines["more than chemistry"]["reason"]


def test_pages_speak_of_profiles_and_not_of_images(ran):
    home, _ = ran
    page = Page((home / "reports/report/report.html").read_text())
    assert "Yes: profiles" in page.text
    assert "This screen has profiles and no images" in page.text
    assert "a random split by profile puts other profiles of the same compound" in page.text
    screen = Page((home / "reports/report/screen.html").read_text())
    assert "96 profiles in 96 wells on 3 plates" in screen.text
    assert "60 features" in screen.text
    for text in (page.text, screen.text):
        assert "image plane" not in text
        assert "usable image" not in text


def test_the_gate_asks_for_no_baseline_that_only_images_have(ran):
    from moascope.promotion.promote import promote

    home, _ = ran
    record = promote(parameters(home / "my"), home / "data", home / "reports/promote", "staging",
                     None, None, False, True)
    reasons = " ".join(line["reason"] for line in record["requirements"])
    assert ("The baseline cell count is made from images, and this screen has profiles alone: not "
            "required (promote.beat).") in reasons
    assert "not available" not in reasons


def test_a_new_table_is_predicted_as_the_screen_that_was_trained_on(ran):
    home, _ = ran
    model = read_model(home / "data/train/model")
    acquired = predict_screen(model, read_screen(home / "data/acquire"), "well")[0]
    given = predict_screen(model, read_screen(home / "my", received=True), "well")[0]
    pd.testing.assert_frame_equal(acquired, given)
    new = make_profiles(home / "new", plates=1, table="profiles.csv.gz")
    compounds = predict_screen(model, read_screen(new), "compound")[0].set_index(
        "Metadata_Compound")["P_gpcr"]
    tubulin = [f"C{i:02d}" for i in range(1, 24, 2)]
    assert compounds.drop(index=["DMSO", *tubulin], errors="ignore").min() > compounds[
        tubulin].max()


@pytest.mark.parametrize("level", ["site", "well", "compound"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_table_beyond_memory_is_predicted_as_one_in_memory(ran, monkeypatch, level, jobs):
    home, _ = ran
    model = read_model(home / "data/train/model")
    screen = read_screen(home / "my", received=True)
    memory, said = predict_screen(model, screen, level)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(disk, "PIECE", 4 * 60 * 7)
    assert isinstance(screen_features(model, screen, jobs).X, disk.OnDisk)
    large, of_large = predict_screen(model, screen, level, jobs)
    pd.testing.assert_frame_equal(large, memory, rtol=0, atol=1e-6)
    assert of_large == said


def test_rows_in_a_request_are_predicted_as_the_table_on_disk(ran, tmp_path):
    home, _ = ran
    model = read_model(home / "data/train/model")
    rows = pd.read_parquet(home / "my/profiles.parquet").merge(
        pd.read_csv(home / "my/layout.csv", keep_default_na=False),
        on=["Metadata_Plate", "Metadata_Well"])
    served = predict_screen(model, screen_from_rows(rows, tmp_path, tmp_path, profiles=True),
                            "well")[0]
    disk = predict_screen(model, read_screen(home / "my"), "well")[0]
    np.testing.assert_allclose(served["P_gpcr"], disk["P_gpcr"], atol=1e-6)


def test_profiles_without_a_feature_of_the_model_are_a_sentence(ran):
    home, _ = ran
    model = read_model(home / "data/train/model")
    other = make_profiles(home / "other", plates=1, features=58)
    with pytest.raises(MoascopeError, match=(
            "lack 2 of the 60 features that the model takes: Cells_Feature_58, Cells_Feature_59")):
        predict_screen(model, read_screen(other), "well")


def test_the_default_backbone_ends_before_anything_is_computed(ran):
    home, _ = ran
    with pytest.raises(MoascopeError, match=r"Set embed\.backbone to profiles in params"):
        run("acquire", parameters(home / "my", embed={}))
    assert (home / "data/acquire/profiles.json").is_file()


def test_pycytominer_and_copairs_read_what_the_stages_write(ran):
    from copairs import map as copairs_map

    with warnings.catch_warnings():
        # Its dependencies warn of themselves while they are imported.
        warnings.simplefilter("ignore")
        import pycytominer

    home, _ = ran
    files = sorted((home / "data/embed/Profiles").glob("*/features.parquet"))
    table = pd.concat([pycytominer.cyto_utils.load_profiles(str(file)) for file in files],
                      ignore_index=True)
    values = [name for name in table if name.startswith("Profiles_")]
    layout = pd.read_csv(home / "data/acquire/layout.csv", keep_default_na=False)
    table = table.merge(layout, on=["Metadata_Plate", "Metadata_Well"])
    normal = pycytominer.normalize(table, features=values,
                                   meta_features=[name for name in table if name not in values],
                                   samples="Metadata_Control == 'negative'", method="mad_robustize")
    assert np.isfinite(normal[values].to_numpy()).all()
    predictions = pd.read_csv(home / "reports/evaluate/predictions_well.csv")
    assert {"Metadata_Plate", "Metadata_Well", "P_gpcr", "Predicted"} <= set(predictions)
    found = copairs_map.average_precision(
        normal[[name for name in normal if name.startswith("Metadata_")]],
        normal[values].to_numpy(), pos_sameby=["Metadata_Compound"],
        pos_diffby=["Metadata_Plate"], neg_sameby=[], neg_diffby=["Metadata_Control"])
    treated = found["Metadata_Control"] != "negative"
    # Of two replicates among 24 controls.
    assert found.loc[treated, "average_precision"].mean() > 1.3 * null_mean(26, 2)


@pytest.mark.parametrize(("table", "layout", "annotations", "wells", "features"), [
    ("lincs_plate", None, None, 384, 454),
    ("bbbc021", "BBBC021_v1_image.csv", "BBBC021_v1_moa.csv", 632, 516)])
def test_real_tables_are_imported_validated_embedded_and_dealt(
        real_data, tmp_path, monkeypatch, table, layout, annotations, wells, features):
    from moascope.importing.profiles.run import import_profiles

    monkeypatch.chdir(tmp_path)
    tables = real_data / "tables"
    import_profiles([real_data / "profiles" / table], tmp_path / "my",
                    layout=tables / layout if layout else None,
                    annotations=tables / annotations if annotations else None)
    params = parameters(tmp_path / "my", target="moa")
    said = run("acquire", params)
    assert said.startswith(f"{wells} sites on ")
    assert said.endswith(f"profiles of {features} features")
    assert f"{wells} of {wells} sites usable" in run("validate", params)
    run("prepare", params)
    run("embed", params)
    assert "no compound, well or profile is on both sides" in run("split", params)
