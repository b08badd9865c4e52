"""What the gate measures of held-out compounds, and which version it is asked about."""

import dataclasses
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples, with_plate_controls
from mlflow.exceptions import MlflowException

from moascope.errors import MoascopeError
from moascope.evaluation.baselines import baseline_inputs, held_out_baseline_logits, unit_logits
from moascope.evaluation.scores import scores_of
from moascope.metrics import (
    bootstrap_weights,
    interval,
    macro_average_precision,
    paired_difference,
)
from moascope.params import Evaluate, Promote
from moascope.promotion import held_out as module
from moascope.promotion import promote as promotion
from moascope.promotion.contenders import Contender, UndecidedError
from moascope.promotion.gate import share_worse
from moascope.promotion.held_out import check_served, measure
from moascope.promotion.promote import _choose, _require_staging, registry_lock
from moascope.promotion.records import COLUMNS, history
from moascope.screen.question import Question

GATE = Promote(resamples=120, beat=("position_only", "cell_count"))


def hold_out(several=False):
    examples = with_plate_controls(make_examples(compounds=45), np.random.default_rng(0))
    held = np.arange(45) % 2 == 1
    groups = examples.groups.assign(Holdout=held)
    for column in ("Fold_0", "Fold_1"):
        groups[column] = np.where(held, -1, np.arange(45) // 2 % 3)
    question = examples.question
    if several:
        question = Question("m", ("a", "b", "c"), False, untestable=("c",))
        groups["Label"] = np.array(list("abc"))[np.arange(45) // 2 % 3]
    examples = replace(examples, groups=groups, question=question, _cache={})
    table = groups[held][["Metadata_Group", "Label", "Metadata_Compound"]].reset_index(drop=True)
    rng = np.random.default_rng(1)
    tables = {}
    for alias in ("candidate", "staging"):
        share = rng.dirichlet(np.ones(len(question.classes)), len(table))
        tables[alias] = table.assign(**{
            name: share[:, i] for i, name in enumerate(question.probabilities)},
            Predicted=np.array(question.classes)[share.argmax(axis=1)])
    return examples, tables


@pytest.mark.parametrize("several", [False, True])
def test_both_models_and_the_baselines_are_scored_on_the_same_compounds(several):
    examples, tables = hold_out(several)
    question = examples.question
    found, counts = measure(examples, tables, Contender("6", "r", None), GATE, 11, None)
    settings = Evaluate(bootstraps=120, permutations=120, refits=0)
    scores = scores_of(tables["candidate"], question, settings, 11)
    for name in ("average_precision", "low", "high", "prevalence", "null_mean", "p"):
        assert getattr(found, name) == scores[name], name
    label = question.index(tables["candidate"]["Label"])
    keep = question.counts(label)
    label = label[keep]
    classes = [0, 1] if several else [1]
    own, theirs = (tables[alias].loc[keep, question.probabilities].to_numpy()
                   for alias in ("candidate", "staging"))
    assert counts == {"compounds": len(label)} | (
        {} if several else {"positives": int(label.sum())})
    wells = examples.counts_and_intensities().wells()
    inputs = baseline_inputs(wells)
    assert set(found.baselines) == {"position_only", "cell_count"}
    for name, value in found.baselines.items():
        logits = unit_logits(wells, held_out_baseline_logits(wells, inputs[name]),
                             tables["candidate"][keep])
        assert value == pytest.approx(float(macro_average_precision(label, logits, classes)))
    cluster = np.arange(len(label))
    drawn = bootstrap_weights(cluster, 120, 11)

    def score(values):
        return lambda weights: macro_average_precision(label, values, classes, weights)

    held = found.incumbent
    assert held.version == "6"
    assert held.average_precision == pytest.approx(
        float(macro_average_precision(label, theirs, classes)))
    assert (held.low, held.high) == interval(score(theirs)(drawn))
    assert (held.difference, held.difference_low, held.difference_high) == paired_difference(
        score(own), score(theirs), cluster, 120, 11)
    assert held.worse == share_worse(score(own)(drawn), score(theirs)(drawn))
    assert found.images is True
    # Without another model, or another table, there is nothing to compare with.
    alone, _ = measure(examples, {"candidate": tables["candidate"]}, Contender("6", "r", None),
                       GATE, 11, None)
    assert alone.incumbent is None
    assert measure(examples, tables, None, GATE, 11, None)[0].incumbent is None
    assert dataclasses.replace(found, incumbent=None) == alone


def test_baselines_of_structure_are_measured_where_the_gate_names_them(monkeypatch):
    examples, tables = hold_out()
    asked = []
    share = np.linspace(-2, -1, 22)

    def chemistry(name, *given):
        asked.append((name, *given))
        return np.column_stack([-share, share]) if name == "chemistry" else None

    monkeypatch.setattr(module, "held_out_chemistry", chemistry)
    gate = Promote(resamples=120, beat=("chemistry", "chemistry_simple"))
    found, _ = measure(examples, tables, None, gate, 11, "annotations")
    label = (tables["candidate"]["Label"] == "t").to_numpy()
    expected = macro_average_precision(label.astype(int), np.column_stack([-share, share]), [1])
    assert found.baselines == {"chemistry": pytest.approx(float(expected))}
    assert [one[0] for one in asked] == ["chemistry", "chemistry_simple"]
    for _, given, units, annotations, seed in asked:
        assert given is examples and annotations == "annotations" and seed == 11
        pd.testing.assert_frame_equal(units, tables["candidate"])
    assert measure(examples, tables, None, GATE, 11, None)[0].baselines.keys() == {
        "position_only", "cell_count"}
    assert len(asked) == 2


@pytest.mark.parametrize(("count", "words"), [(22, "22 held-out compounds"),
                                              (1, "1 held-out compound")])
def test_a_hold_out_of_one_class_cannot_be_ranked(count, words):
    examples, tables = hold_out()
    table = tables["candidate"].assign(Label="not_t")[:count]
    with pytest.raises(UndecidedError) as error:
        measure(examples, {"candidate": table}, None, GATE, 0, None)
    assert str(error.value) == (
        f"The {words} are all of one class, so nothing can be ranked. Raise split.holdout in "
        "params.yaml or annotate more compounds, and run `dvc repro`.")


# The registered model against the one that was trained


def trained(folder, table, run="r1"):
    (folder / "run.json").write_text(json.dumps({"run_id": run}))
    table.to_parquet(folder / "predictions_compound.parquet")
    return folder


def test_a_registered_model_must_say_what_train_wrote(tmp_path):
    own = pd.DataFrame({"Metadata_Group": ["g1", "g2"], "Metadata_Compound": ["A", "B"],
                        "P_not_t": [0.4, 0.3], "P_t": [0.6, 0.7], "Predicted": "t"})
    written = pd.concat([own.iloc[::-1], own[:1].assign(Metadata_Group="g3")]).assign(
        Split="held_out")
    written = pd.concat([written, own.assign(P_t=0.0, Split="out_of_fold")])
    candidate = Contender("9", "r1", None)
    assert check_served(candidate, own, trained(tmp_path, written)) is True
    assert check_served(Contender("9", "r2", None), own, tmp_path) is False
    rounding = written.assign(P_t=written["P_t"] + 0.9e-4)
    assert check_served(candidate, own, trained(tmp_path, rounding)) is True
    off = written.copy()
    off.loc[(off["Metadata_Group"] == "g2"), "P_t"] = 0.75
    with pytest.raises(MoascopeError) as error:
        check_served(candidate, own, trained(tmp_path, off))
    assert str(error.value) == (
        "Version 9 as loaded from the registry does not predict what train wrote: B differs by "
        "0.05 in probability, and 1 of 2 held-out compounds differ. Serving would differ from "
        "training: run `dvc repro --single-item --force train`, then `dvc repro register report`, "
        "and compare the moascope versions of both.")
    # A probability that is none on either side differs, too.
    for one, two in ((own, written.assign(P_t=np.nan)), (own.assign(P_t=[0.6, np.nan]), written),
                     (own.assign(P_t=np.nan, P_not_t=np.nan), written)):
        with pytest.raises(MoascopeError, match="differs by inf in probability"):
            check_served(candidate, one, trained(tmp_path, two))
    for strange in (written[written["Metadata_Group"] != "g1"], written.drop(columns="P_t"),
                    written.assign(Split="out_of_fold")):
        with pytest.raises(MoascopeError) as error:
            check_served(candidate, own, trained(tmp_path, strange))
        assert str(error.value) == (
            "data/train and data/split do not belong together: train predicted other held-out "
            "compounds. Run `dvc repro` and promote again.")


# Which version


def registry(monkeypatch, aliases, versions=("1", "2", "10")):
    monkeypatch.setattr(promotion, "aliases_of", lambda client, name: aliases)

    def get(name, version):
        if version not in versions:
            raise MlflowException("not there")

    return SimpleNamespace(
        get_model_version=get,
        search_model_versions=lambda words: [SimpleNamespace(version=one) for one in versions]
        if words == "name = 'm'" else [])


def test_the_candidate_goes_to_staging_and_what_staging_holds_to_production(monkeypatch):
    client = registry(monkeypatch, {"candidate": "2", "staging": "1"})
    assert _choose(client, "m", "staging", None, "") == "2"
    assert _choose(client, "m", "production", None, "") == "1"
    assert _choose(client, "m", "staging", "10", "") == "10"
    assert _choose(client, "m", "production", "1", "") == "1"
    for given, said in (
            (("production", "2", " --model x"),
             "Version 2 of 'm' does not hold staging (version 1 does), and only the version in "
             "staging can be promoted to production. Run `moascope promote --model x --version 2` "
             "first."),
            (("staging", "3", ""), "There is no version 3 of 'm'. Its versions: 1, 2, 10.")):
        with pytest.raises(MoascopeError) as error:
            _choose(client, "m", *given)
        assert str(error.value) == said
    client = registry(monkeypatch, {})
    for given, said in (
            (("staging", None, ""),
             "No version of 'm' is the candidate. Run `dvc repro register report` to register one, "
             "or choose a version with --version."),
            (("production", None, " --model x"),
             "No version of 'm' holds staging, and only the version in staging can be promoted to "
             "production. Run `moascope promote --model x` first."),
            (("production", "2", ""),
             "Version 2 of 'm' does not hold staging, and only the version in staging can be "
             "promoted to production. Run `moascope promote --version 2` first.")):
        with pytest.raises(MoascopeError) as error:
            _choose(client, "m", *given)
        assert str(error.value) == said
    _require_staging("m", "staging", "2", {}, "")


def test_one_promotion_at_a_time_writes(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(promotion, "LOCK_SECONDS", 0.05)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with registry_lock(address):
        assert (tmp_path / "mlflow.db.lock").exists()
    with (FileLock(tmp_path / "mlflow.db.lock"), pytest.raises(MoascopeError) as error,
          registry_lock(address)):
        pass
    assert str(error.value) == (
        f"Another promotion has held {tmp_path / 'mlflow.db.lock'} for 0.05 s. Check whether a "
        "`moascope promote` is still running, then try again.")
    # Two servers have two locks.
    monkeypatch.setattr(promotion.tempfile, "gettempdir", lambda: str(tmp_path))
    with registry_lock("http://one"), registry_lock("http://two"):
        assert len(list(tmp_path.glob("moascope-*.lock"))) == 2


def test_a_user_without_a_name_is_unknown(monkeypatch):
    def none():
        raise KeyError("getpwuid")

    monkeypatch.setattr(promotion.getpass, "getuser", none)
    assert promotion._who() == "unknown"
    monkeypatch.setattr(promotion.getpass, "getuser", lambda: "doe")
    assert promotion._who() == "doe"


def test_the_history_is_read_page_by_page_and_an_open_decision_was_interrupted():
    def run(number, status, **tags):
        return SimpleNamespace(info=SimpleNamespace(run_id=f"r{number}", status=status),
                               data=SimpleNamespace(tags={"version": str(number), **tags},
                                                    metrics={"p": 0.0123456789, "lift": 2.0}))

    pages = {None: ([run(1, "FINISHED", decision="promoted")], "next"),
             "next": ([run(2, "RUNNING", decision="refused"), run(3, "KILLED")], None)}

    class Page(list):
        token = None

    def search(experiments, order_by, max_results, page_token):
        assert experiments == ["e7"] and order_by == ["attributes.start_time"]
        runs, token = pages[page_token]
        page = Page(runs)
        page.token = token
        return page

    client = SimpleNamespace(
        get_experiment_by_name=lambda name: SimpleNamespace(experiment_id="e7")
        if name == "m promotions" else None, search_runs=search)
    table = history(client, "m")
    assert list(table) == COLUMNS
    assert table["version"].tolist() == ["1", "2", "3"]
    assert table["decision"].tolist() == ["promoted", "interrupted", "interrupted"]
    assert table["promotion_run"].tolist() == ["r1", "r2", "r3"]
    assert table["p"].tolist() == ["0.0123457"] * 3 and (table["who"] == "").all()
    assert history(client, "other").empty and list(history(client, "other")) == COLUMNS
