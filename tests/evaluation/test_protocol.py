"""The protocol: which numbers go into metrics.json, what each is asked of, and the headline."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moascope.evaluation import protocol as module
from moascope.evaluation.caveats import (
    ACTIVITY_CAVEAT,
    SIMULATED_CAVEAT,
    SINGLE_BATCH_CAVEAT,
    caveats_of,
)
from moascope.evaluation.protocol import headline, protocol
from moascope.params import Head, Train
from moascope.params_file import parse_params
from moascope.screen.question import Question

PARTS = ("evaluate_predictions", "score_active", "evaluate_baselines", "evaluate_references",
         "evaluate_mechanisms", "evaluate_abstention", "evaluate_groups",
         "predict_unseen_batches", "score_unseen_batches", "evaluate_chemistry", "evaluate_leak",
         "evaluate_oracle", "with_chemistry", "recommended_head", "read_screen")
HEAD, TRAIN = Head(epochs=7), Train(batch_size=32)


def run(tmp_path, monkeypatch, source="simulated", unit="compound", p=0.01, batches=("B1", "B2"),
        shares=True, oracle=True, description=None):
    """`protocol` with its parts replaced: what it returns, and what each part was asked."""
    table = pd.DataFrame({"Log_Odds": [1.0, -2.0]})
    answers = {
        "evaluate_predictions": {"out_of_fold": {"compound": {"p": p}}, "by_panel": "panels"},
        "score_active": "active",
        "evaluate_baselines": {"useful": True, "scores": "s"},
        "evaluate_references": "references", "evaluate_mechanisms": "mechanisms",
        "evaluate_abstention": "abstention",
        "evaluate_groups": {"groups": "g", "shares": table} if shares else None,
        "predict_unseen_batches": "predicted", "score_unseen_batches": "batches",
        "evaluate_chemistry": {"warnings": ["few structures"], "baselines": "b", "n": 4},
        "evaluate_leak": "leak", "evaluate_oracle": {"efficiency": 0.5} if oracle else None,
        "with_chemistry": {"useful": False, "scores": "both"}, "recommended_head": "logistic",
        "read_screen": SimpleNamespace(annotations="annotations"),
    }
    asked = {}

    def part(name):
        def ask(*arguments, **options):
            asked[name] = (*arguments, options) if options else arguments
            return answers[name]
        return ask

    for name in PARTS:
        monkeypatch.setattr(module, name, part(name))
    model = SimpleNamespace(head=HEAD, train=TRAIN, embed=SimpleNamespace(backbone="morphology"),
                            calibrations={"compound": SimpleNamespace(slope=3.0),
                                          "site": SimpleNamespace(slope=9.0)})
    read = []
    monkeypatch.setattr(module, "read_model", lambda path: read.append(path) or model)
    monkeypatch.setattr(module, "read_description", lambda path: read.append(path) or (
        {"licence": "CC0", "citation": "Doe", "non_commercial": 1} if description is None
        else description))
    (tmp_path / "split").mkdir()
    (tmp_path / "split/target.json").write_text(json.dumps({"warnings": ["few"]}))
    examples = SimpleNamespace(
        question=Question("t", ("not_t", "t"), True, unit, untestable=("x",)),
        meta=pd.DataFrame({"Metadata_Batch": [*batches, "unused"]}), repeats=3,
        in_folds=np.array([True] * len(batches) + [False]))
    compounds = pd.DataFrame({"Split": ["held_out", "out_of_fold", "out_of_fold"],
                              "Metadata_Group": ["a", "b", "c"]})
    predictions = {"compound": compounds, "site": None}
    params = parse_params({"acquire": {"source": source}, "seed": 5,
                           "split": {"folds": 4, "group": "scaffold"}})
    metrics, shown = protocol(params, examples, predictions, tmp_path / "train",
                              tmp_path / "split", tmp_path / "screen", "activity")
    assert read == [tmp_path / "train/model", tmp_path / "screen"]
    return metrics, shown, asked, params.evaluate, examples, predictions


def test_metrics_hold_what_each_part_says(tmp_path, monkeypatch):
    metrics, shares, asked, settings, examples, predictions = run(tmp_path, monkeypatch)
    assert metrics == {
        "target": "t", "classes": ["not_t", "t"], "unit": "compound", "source": "simulated",
        "licence": "CC0", "citation": "Doe", "non_commercial": True, "backbone": "morphology",
        "not_testable": ["x"], "warnings": ["few", "few structures"],
        "caveats": caveats_of({"licence": "CC0", "non_commercial": 1}, "simulated", "compound", 2),
        "folds": 4, "repeats": 3, "split_by": "scaffold", "seed": 5, "head": HEAD.described(),
        "out_of_fold": {"compound": {"p": 0.01}}, "by_panel": "panels", "activity": "active",
        "baselines": {"useful": False, "scores": "both"}, "references": "references",
        "mechanisms": "mechanisms", "abstention": "abstention", "explanation": {"groups": "g"},
        "unseen_batch": "batches", "chemistry": {"n": 4}, "random_image_split": "leak",
        "recommended_head": "logistic", "oracle": {"efficiency": 0.5},
        "above_chance": True, "useful": False,
    }
    # In calibrated log-odds.
    assert shares["Log_Odds"].tolist() == [3.0, -6.0]
    in_folds = pd.DataFrame({"Split": ["out_of_fold"] * 2, "Metadata_Group": ["b", "c"]})
    for name in ("score_active", "evaluate_baselines", "evaluate_references",
                 "evaluate_chemistry"):
        pd.testing.assert_frame_equal(asked[name][0], in_folds)
    assert asked["score_active"][1:] == ("activity", examples.question, settings, 5)
    assert asked["evaluate_baselines"][1:] == (examples, HEAD, TRAIN, settings, 5)
    assert asked["evaluate_references"][1:] == (examples, settings, 5)
    assert asked["evaluate_chemistry"][1:] == (examples, "annotations", settings, 5)
    assert asked["evaluate_predictions"] == (predictions, examples, settings, 5)
    assert asked["evaluate_mechanisms"] == (examples, settings, 5)
    assert asked["evaluate_abstention"][0] is predictions["compound"]
    assert asked["evaluate_abstention"][1] is examples
    assert asked["evaluate_abstention"][3:] == (5, "predicted")
    assert asked["evaluate_abstention"][2].head is HEAD
    for name in ("evaluate_groups", "evaluate_leak"):
        assert asked[name] == (examples, HEAD, TRAIN, settings, 5)
    assert asked["predict_unseen_batches"] == (examples, HEAD, TRAIN, 5)
    assert asked["score_unseen_batches"] == ("predicted", examples.question, settings, 5)
    assert asked["with_chemistry"] == ({"useful": True, "scores": "s"}, {
        "n": 4, "baselines": "b"})
    assert asked["recommended_head"] == ("references", HEAD)
    assert asked["evaluate_oracle"] == (examples, tmp_path / "screen", {"p": 0.01}, settings, 5)
    assert asked["read_screen"] == (tmp_path / "screen", {"tables_only": True})


def test_the_truth_is_read_of_a_simulated_screen_alone(tmp_path, monkeypatch):
    metrics, _, asked, *_ = run(tmp_path, monkeypatch, source="folder")
    assert "oracle" not in metrics and "evaluate_oracle" not in asked


def test_a_simulated_screen_without_its_truth_has_no_oracle(tmp_path, monkeypatch):
    assert "oracle" not in run(tmp_path, monkeypatch, oracle=False)[0]


def test_of_wells_as_units_nothing_is_said_of_structures_or_of_leaks(tmp_path, monkeypatch):
    metrics, _, asked, *_ = run(tmp_path, monkeypatch, unit="well")
    assert not {"chemistry", "random_image_split"} & set(metrics)
    assert not {"evaluate_chemistry", "evaluate_leak"} & set(asked)
    assert metrics["warnings"] == ["few"] and metrics["useful"] is True
    assert ACTIVITY_CAVEAT in metrics["caveats"]


@pytest.mark.parametrize(("p", "above"), [(0.0499, True), (0.05, False)])
def test_above_chance_is_a_p_below_one_in_twenty(tmp_path, monkeypatch, p, above):
    metrics, *_ = run(tmp_path, monkeypatch, p=p, batches=("B1", "B1"), description={})
    assert metrics["above_chance"] is above
    assert SINGLE_BATCH_CAVEAT in metrics["caveats"]
    assert (metrics["licence"], metrics["citation"], metrics["non_commercial"]) == ("", "", False)


def test_without_an_explanation_the_shares_are_empty(tmp_path, monkeypatch):
    metrics, shares, *_ = run(tmp_path, monkeypatch, shares=False)
    assert metrics["explanation"] is None and shares.empty and "Log_Odds" in shares


METRICS = {"out_of_fold": {"compound": {
    "average_precision": 0.51234, "low": 0.4, "high": 0.6, "compounds": 12, "null_mean": 0.2,
    "prevalence": 0.25, "p": 0.00123}}, "above_chance": True, "unit": "compound",
    "baselines": {"best": "plate_only", "scores": {
        "plate_only": {"average_precision": 0.3}, "other": {"average_precision": 0.1}}}}


def test_the_headline_is_one_sentence():
    assert headline(METRICS) == (
        "average precision 0.512 [0.400, 0.600] over 12 unseen compounds, where a random list "
        "gives 0.200 on average (prevalence 0.250); permutation p = 0.00123: above chance; best "
        "baseline plate_only 0.300")
    few = METRICS["out_of_fold"]["compound"] | {"low": None, "high": None}
    said = headline(METRICS | {"above_chance": False, "out_of_fold": {"compound": few}})
    assert "precision 0.512 over 12" in said and "p = 0.00123: not above chance; " in said


def test_each_caveat_stands_where_it_holds_and_nowhere_else():
    assert caveats_of({}, "folder", "compound", 2) == []
    assert caveats_of({}, "folder", "compound") == []
    assert caveats_of({}, "simulated", "compound", 2) == [SIMULATED_CAVEAT]
    assert caveats_of({}, "folder", "well", 0) == [ACTIVITY_CAVEAT]
    assert caveats_of({}, "folder", "compound", 1) == [SINGLE_BATCH_CAVEAT]
    assert caveats_of({"caveat": "Few wells."}, "folder", "compound") == ["Few wells."]
    assert caveats_of({"licence": "NC 4.0", "non_commercial": True}, "folder", "compound") == [
        "The licence of these data forbids commercial use, and so that of a model trained on "
        "them: NC 4.0."]
    assert caveats_of({"licence": "CC0", "non_commercial": False}, "folder", "compound") == []
