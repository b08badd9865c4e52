"""The gate: who wins, who loses, and what is left behind; no training and no TensorFlow."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import make_screen

from moascope import cli
from moascope.errors import MoascopeError
from moascope.features import disk
from moascope.features.embed import features_of_screen
from moascope.learning.calibration import Calibration
from moascope.learning.dealing import assign_folds
from moascope.learning.examples import LEVELS
from moascope.learning.final import predictions_table
from moascope.learning.head import FittedHeads
from moascope.learning.joining import load_examples
from moascope.learning.model import TrainedModel, identities, save_model
from moascope.metrics import bootstrap_weights, macro_average_precision
from moascope.params import Embed, Head, Prepare, Promote, Train
from moascope.params_file import parse_params
from moascope.promotion import promote as promotion
from moascope.promotion.contenders import Contender, load_pipeline, unseen_hold_out
from moascope.promotion.gate import Against, Numbers, decide, share_worse
from moascope.promotion.held_out import answers, check_served, measure, site_logits
from moascope.promotion.promote import promote
from moascope.promotion.records import history
from moascope.screen.question import Question
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.tracking.comparison import run_address
from moascope.tracking.registry import description_of

SOURCE = Path(__file__).parents[2] / "src"
NUMBERS = Numbers(average_precision=0.6, low=0.4, high=0.8, prevalence=0.2, null_mean=0.25,
                  p=0.01,
                  baselines={name: 0.3 for name in Promote().beat})
AGAINST = Against(version="1", average_precision=0.6, low=0.4, high=0.8, difference=0.0,
                  difference_low=0.0, difference_high=0.0, worse=0.0)

# The weights below are those of robust deviations of sites.
LINEAR = Head(layers=0, level="site", normalisation="plate")


def against(**changes):
    return dataclasses.replace(NUMBERS, incumbent=dataclasses.replace(AGAINST, **changes))


# The decision


def test_a_worse_candidate_loses_however_wide_the_interval_is():
    decision = decide(against(difference=-0.01, difference_low=-0.3, difference_high=0.3,
                              worse=0.5), Promote())
    assert not decision.passed
    assert len(decision.failures) == 1
    assert "by -0.010 [-0.300, +0.300] from that of version 1, 0.600 on" in decision.failures[0]


def test_a_candidate_that_is_below_in_most_resamples_loses():
    decision = decide(against(difference=0.01, worse=0.51), Promote())
    assert not decision.passed
    assert "below version 1 in 51% of the paired resamples" in decision.failures[0]


def test_a_tie_does_not_lose():
    assert decide(against(), Promote()).passed


def test_the_first_candidate_is_judged_by_floor_and_nulls_alone():
    assert decide(NUMBERS, Promote()).passed
    for change, words in (
        ({"average_precision": 0.25}, "1.00 times the 0.250 that a random list"),
        ({"p": 0.2}, "p = 0.2"),
        ({"baselines": NUMBERS.baselines | {"cell_count": 0.6}}, "baseline cell count"),
    ):
        decision = decide(dataclasses.replace(NUMBERS, **change), Promote())
        assert not decision.passed
        assert words in " ".join(decision.failures)


@pytest.mark.parametrize(("name", "model", "baseline", "p", "passes"), [
    ("count_and_intensity", 1.0, 1.0, 0.001, True),
    ("cell_count", 1.0, 1.0, 0.001, True),
    ("cell_count", 0.999, 1.0, 0.001, False),     # below the ceiling
    ("cell_count", 0.9, 0.9, 0.001, False),       # a tie where more was possible
    ("plate_only", 1.0, 1.0, 0.001, False),       # the layout gives the answer away
    ("position_only", 1.0, 1.0, 0.001, False),
    ("cell_count", 1.0, 1.0, 0.2, False),         # perfect, but so are one in five random lists
])
def test_a_tie_passes_at_the_ceiling_alone_and_only_with_what_measures_cells(
        name, model, baseline, p, passes):
    numbers = dataclasses.replace(NUMBERS, average_precision=model, p=p,
                                  baselines=NUMBERS.baselines | {name: baseline})
    decision = decide(numbers, Promote())
    assert decision.passed == passes
    assert len(decision.failures) == (not passes)


def test_a_baseline_that_cannot_be_asked_is_not_passed_over():
    decision = decide(dataclasses.replace(NUMBERS, baselines={}), Promote(beat=("cell_count",)))
    assert not decision.passed
    assert "promote.beat" in decision.failures[0]


def test_a_number_that_is_none_passes_nothing():
    nothing = float("nan")
    numbers = dataclasses.replace(against(difference=nothing, worse=nothing),
                                  average_precision=nothing, p=nothing)
    decision = decide(numbers, Promote())
    assert not any(line.passed for line in decision.requirements)


def test_every_reason_names_its_number_its_limit_and_its_knob():
    for line in decide(against(), Promote()).requirements:
        assert line.reason.endswith(").") and "promote." in line.reason
        assert "is required: met" in line.reason


def test_one_swapped_pair_is_worse_although_most_resamples_do_not_see_it():
    label = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    good = np.linspace(1, 0, 8)
    swapped = good[[0, 2, 1, 3, 4, 5, 6, 7]]
    weights = bootstrap_weights(np.arange(8), 500, 0)

    def scores(score):
        return macro_average_precision(label, np.stack([1 - score, score], 1), [1], weights)

    assert (scores(good) == scores(swapped)).mean() > 0.5
    assert share_worse(scores(swapped), scores(good)) == 1
    assert share_worse(scores(good), scores(good)) == 0
    assert share_worse(scores(good), scores(swapped)) == 0


# Screens, models and a registry made for the purpose

NAMES = ("Count_Nuclei", "Intensity_DNA_Mean", "Morphology_DNA_signal", "Morphology_DNA_noise")
SECTIONS = {"embed": {"backbone": "morphology"},
            "split": {"folds": 3, "repeats": 1, "holdout": 0.5},
            "acquire": {"source": "folder"},
            "prepare": {"crop": 32, "crops": 1, "flat_field": False},
            "promote": {"resamples": 200}}
PARAMS = parse_params(SECTIONS)
# Weights of the signal and of the noise, which is a compound's own.
GOOD, BETTER, BAD, CHANCE = (1.0, 1.0), (1.0, 0.3), (1.0, 2.2), (0.0, 1.0)


def fabricate(folder, images=False, compounds=40):
    """data/acquire, data/embed and data/split of a screen with a known signal."""
    data = folder / "data"
    make_screen(data / "acquire", plates=2, wells=compounds + 6, controls=6, sites=1,
                compounds=compounds, images=images)
    screen = read_screen(data / "acquire")
    rng = np.random.default_rng(3)
    own_noise = rng.normal(size=compounds)
    table = screen.sites.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"])
    values = rng.normal(size=(len(table), len(NAMES)))
    number = table["Metadata_Compound"].str.extract(r"C(\d+)")[0]
    treated = number.notna().to_numpy()
    number = number[treated].astype(int).to_numpy()
    values[treated, 2] = np.where(number % 2 == 0, 1.5, -1.5) + values[treated, 2]
    values[treated, 3] = 3 * own_noise[number]
    features = pd.concat([
        table[["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
               "Metadata_Panel"]].assign(QC_Pass=True),
        pd.DataFrame(values.astype(np.float32), columns=list(NAMES)),
    ], axis=1)
    for plate, part in features.groupby("Metadata_Plate"):
        (data / "embed" / "Morphology" / plate).mkdir(parents=True)
        part.to_parquet(data / "embed" / "Morphology" / plate / "features.parquet", index=False)
    deal(data, PARAMS)
    return data


def deal(data, params, target="gpcr"):
    """What split leaves."""
    labels = label_screen(read_screen(data / "acquire"), target)
    groups = assign_folds(labels.groups, params.split.folds, params.split.repeats,
                          params.split.holdout, params.seed)
    (data / "split").mkdir(exist_ok=True)
    groups.to_parquet(data / "split/groups.parquet", index=False)
    labels.wells.to_parquet(data / "split/wells.parquet", index=False)
    (data / "split/target.json").write_text(json.dumps({
        **dataclasses.asdict(labels.question), "warnings": []}))


def head_of(weights, names=NAMES):
    kernel = np.zeros((1, len(names), 2), np.float32)
    kernel[0, 2:4, 1] = weights
    return FittedHeads(LINEAR, np.zeros((1, len(names)), np.float32),
                       np.ones((1, len(names)), np.float32), [kernel],
                       [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))


def model_of(weights, data, **changes):
    groups = pd.read_parquet(data / "split/groups.parquet")
    seen = identities(groups[~groups["Holdout"]], "compound")
    made = TrainedModel(
        question=Question("gpcr", ("not_gpcr", "gpcr"), True),
        heads={"": head_of(weights)}, panels=("",),
        calibrations={level: Calibration(0.1, 0.0, 0.5) for level in LEVELS},
        sphering=None, names=NAMES, channels=("DNA", "Actin"), controls=True,
        prepare=PARAMS.prepare, embed=Embed(backbone="morphology"),
        head=LINEAR, train=Train(),
        trained_on=tuple(sorted(set().union(*seen))),
    )
    return dataclasses.replace(made, **changes)


def write_trained(data, model, run_id):
    """What train leaves, by train's own function for the predictions."""
    examples = load_examples(data / "embed", data / "acquire", data / "split")
    nothing = np.zeros((len(examples.meta), 2), np.float32)
    folds = {(0, fold): nothing for fold in range(PARAMS.split.folds)}
    calibration = model.calibrations["compound"]
    table = predictions_table(examples, "compound", folds, dict.fromkeys(folds, calibration),
                              model.heads, calibration, model.head,
                              PARAMS.model_copy(update={"train": model.train}))
    shutil.rmtree(data / "train", ignore_errors=True)
    (data / "train").mkdir()
    table.to_parquet(data / "train/predictions_compound.parquet", index=False)
    (data / "train/run.json").write_text(json.dumps({"run_id": run_id}))
    save_model(model, data / "train/model")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with data and an empty registry; tests work on copies."""
    folder = tmp_path_factory.mktemp("made")
    data = fabricate(folder)
    write_trained(data, model_of(GOOD, data), "0" * 32)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.create_experiment("models", artifact_location=(folder / "mlruns").as_uri())
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """An own copy with ways to register models in it and to look at what became of them."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    data = Path("data")

    def register(weights, trained=False, **changes):
        model = model_of(weights, data, **changes)
        experiment = client.get_experiment_by_name("models").experiment_id
        run = client.create_run(experiment).info.run_id
        source = folder / "models" / run
        save_model(model, source / "artifacts/model")
        with_name = {found.name for found in client.search_registered_models()}
        if "moascope" not in with_name:
            client.create_registered_model("moascope")
        version = client.create_model_version("moascope", source.as_uri(), run).version
        client.set_registered_model_alias("moascope", "candidate", version)
        if trained:
            write_trained(data, model, run)
        return str(version)

    def ask(to="staging", params=PARAMS, **options):
        return promote(params, data, Path("reports/promote"), to, **options)

    def aliases():
        found = client.get_registered_model("moascope").aliases
        return {alias: str(version) for alias, version in found.items() if alias != "candidate"}

    return SimpleNamespace(folder=folder, data=data, client=client, register=register, ask=ask,
                           aliases=aliases)


# The story


def test_a_first_a_better_and_a_worse_candidate(project):
    first = project.register(GOOD)
    assert project.ask()["decision"] == "promoted"
    assert project.aliases() == {"staging": first}

    better = project.register(BETTER, trained=True)
    record = project.ask()
    assert record["decision"] == "promoted" and record["incumbent"] == first
    assert record["numbers"]["incumbent"]["difference"] > 0
    assert record["says_what_train_wrote"]
    assert project.aliases() == {"staging": better}

    worse = project.register(BAD)
    record = project.ask()
    assert record["decision"] == "refused"
    assert any("that of version 2," in reason for reason in record["reasons"])
    assert project.aliases() == {"staging": better}

    told = history(project.client, "moascope")
    assert told["version"].tolist() == [first, better, worse]
    assert told["decision"].tolist() == ["promoted", "promoted", "refused"]
    assert told["incumbent"].tolist() == ["none", first, better]
    kept = pd.read_csv("reports/promote/history.csv", dtype=str, keep_default_na=False)
    assert kept["promotion_run"].tolist() == told["promotion_run"].tolist()
    assert json.loads(Path("reports/promote/promotion.json").read_text()) == record

    def tags(version):
        return project.client.get_model_version("moascope", version).tags

    assert tags(better)["promotion.staging.decision"] == "promoted"
    assert tags(better)["promotion.staging.incumbent"] == first
    assert tags(first)["promotion.staging.replaced_by"] == better
    assert "replaced by version 2" in project.client.get_model_version("moascope",
                                                                       first).description
    assert tags(worse)["promotion.staging.decision"] == "refused"
    assert "not met" in tags(worse)["promotion.staging.reasons"]
    described = project.client.get_model_version("moascope", worse).description
    assert "**staging**: refused" in described and "/artifacts/evaluation/report.html" in described
    # The run that made a model tells what became of it, in files too.
    made_by = project.client.get_model_version("moascope", better).run_id
    assert "promoted: version 2" in project.client.get_run(made_by).data.tags["promotion.staging"]
    assert [file.path for file in project.client.list_artifacts(made_by, "promotion")] == [
        "promotion/staging.json"]


def test_features_on_disk_decide_the_same(project, monkeypatch):
    project.register(GOOD, trained=True)
    memory = project.ask(dry_run=True)
    monkeypatch.setattr(disk, "PIECE", 4 * len(NAMES) * 13)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
    large = project.ask(dry_run=True)
    assert isinstance(load_pipeline(project.data, PARAMS).examples.features, disk.OnDisk)
    assert large["says_what_train_wrote"] and large["decision"] == memory["decision"]
    assert large["numbers"] == memory["numbers"]


def test_a_chance_level_candidate_is_refused_although_nothing_holds_staging(project):
    project.register(CHANCE)
    record = project.ask()
    assert record["decision"] == "refused"
    assert project.aliases() == {}
    assert history(project.client, "moascope")["decision"].tolist() == ["refused"]


def test_the_same_model_again_is_a_tie_and_takes_over(project):
    project.register(GOOD)
    project.ask()
    again = project.register(GOOD)
    assert project.ask()["decision"] == "promoted"
    assert project.aliases() == {"staging": again}


def test_a_worse_model_loses_whichever_it_is():
    """The floor aside, no model that ranks the compounds worse gets past the incumbent."""
    rng = np.random.default_rng(0)
    gate = Promote(resamples=200, least_lift=0, max_p=1, beat=())
    label = np.array([1] * 4 + [0] * 21)
    weights = bootstrap_weights(np.arange(25), 200, 0)
    compared = 0
    for _ in range(200):
        one, two = (label + rng.normal(size=25) * rng.uniform(0.3, 3) for _ in range(2))

        def scores(score, drawn=None):
            return macro_average_precision(label, np.stack([-score, score], 1), [1], drawn)

        difference = float(scores(one) - scores(two))
        decision = decide(against(difference=difference, worse=share_worse(
            scores(one, weights), scores(two, weights))), gate)
        if difference < -1e-6:
            compared += 1
            assert not decision.passed
    assert compared > 50


def test_a_second_call_says_that_the_version_holds_staging_already(project):
    version = project.register(GOOD)
    project.ask()
    assert project.ask() == {"decision": "holds", "name": "moascope", "version": version,
                             "to": "staging"}
    assert len(history(project.client, "moascope")) == 1


def test_how_often_the_same_compounds_were_asked_is_counted(project):
    for count in range(3):
        project.register(GOOD)
        assert project.ask()["held_out"]["asked_before"] == count


def state(folder):
    """Every row of the database and every file, so that nothing written goes unseen."""
    import sqlite3

    with sqlite3.connect(folder / "mlflow.db") as database:
        dump = list(database.iterdump())
    database.close()
    return dump, sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")
                        if path.is_file() and not path.name.startswith("mlflow.db"))


@pytest.mark.parametrize(("weights", "decision"), [(BETTER, "promoted"), (CHANCE, "refused")])
def test_a_dry_run_decides_and_writes_nothing(project, weights, decision):
    project.register(GOOD)
    project.ask()
    project.register(weights)
    before = state(project.folder)
    assert project.ask(dry_run=True)["decision"] == decision
    assert state(project.folder) == before


# Production


def test_production_takes_what_staging_has_tried_and_nothing_else(project):
    first = project.register(GOOD)
    with pytest.raises(MoascopeError, match="Run `moascope promote` first"):
        project.ask("production")
    with pytest.raises(MoascopeError, match="Version 1 of 'moascope' does not hold staging"):
        project.ask("production", version=first)
    project.ask()
    assert project.ask("production")["decision"] == "promoted"
    assert project.aliases() == {"staging": first, "production": first}

    better = project.register(BETTER)
    project.ask()
    project.register(BAD)
    with pytest.raises(MoascopeError, match=r"Version 3 .* \(version 2 does\)"):
        project.ask("production", version="3")
    record = project.ask("production")
    assert record["version"] == better
    assert project.aliases() == {"staging": better, "production": better}


# What cannot be decided


def test_a_model_that_saw_held_out_compounds_is_not_asked_about_them(project):
    groups = pd.read_parquet(project.data / "split/groups.parquet")
    held_out = groups.loc[groups["Holdout"], "Metadata_Group"].tolist()[:2]
    honest = model_of(GOOD, project.data).trained_on
    project.register(GOOD, trained_on=(*honest, *held_out))
    with pytest.raises(MoascopeError) as error:
        project.ask()
    assert len(error.value.problems) == 1
    assert ("Version 1 (candidate) was trained on 2 of the 20 held-out compounds "
            f"({held_out[0].upper()}, {held_out[1].upper()})") in str(error.value)
    assert "--unseen-only" in str(error.value)
    assert project.aliases() == {}

    record = project.ask(unseen_only=True)
    assert record["held_out"]["left_out_as_seen"] == 2
    assert record["held_out"]["compounds"] == 18


def test_an_incumbent_that_saw_held_out_compounds_is_never_compared_silently(project):
    groups = pd.read_parquet(project.data / "split/groups.parquet")
    everything = tuple(groups["Metadata_Group"])
    cheat = project.register(BAD, trained_on=everything)
    project.client.set_registered_model_alias("moascope", "staging", cheat)
    project.register(BETTER)
    with pytest.raises(MoascopeError, match=r"Version 1 \(staging\) was trained on 20 of the 20"):
        project.ask()
    with pytest.raises(MoascopeError, match="No held-out compound is left"):
        project.ask(unseen_only=True)
    assert project.aliases() == {"staging": cheat}


def test_a_compound_is_known_again_after_its_key_was_added():
    before = pd.DataFrame({"Metadata_Group": ["aspirin"], "Metadata_Compound": ["Aspirin"]})
    after = pd.DataFrame({"Metadata_Group": ["BSYNRYMUTXBXSQ"],
                          "Metadata_Compound": ["Aspirin|aspirin sodium"]})
    assert identities(before, "compound")[0] & identities(after, "compound")[0] == {"aspirin"}
    assert identities(after, "well") == [{"BSYNRYMUTXBXSQ"}]


def test_models_of_another_question_are_not_compared(project):
    project.register(GOOD, question=Question("gpcr_agonist", ("not_gpcr", "gpcr"), True))
    with pytest.raises(MoascopeError, match="its target is gpcr_agonist, and that of "
                                            "data/split is gpcr"):
        project.ask()


def test_a_model_that_does_not_say_what_it_was_trained_on_is_not_trusted(project):
    project.register(GOOD, trained_on=None)
    with pytest.raises(MoascopeError, match="does not record which compounds it was trained on"):
        project.ask()


def test_a_registered_model_that_differs_from_the_trained_one_is_an_error(project):
    version = project.register(GOOD, trained=True)
    assert project.ask(dry_run=True)["says_what_train_wrote"]
    run_id = project.client.get_model_version("moascope", version).run_id
    heads = project.folder / "models" / run_id / "artifacts/model/heads_0.npz"
    with np.load(heads) as stored:
        arrays = dict(stored)
    arrays["kernel_0"] = arrays["kernel_0"] * 1.01
    np.savez(heads, **arrays)
    with pytest.raises(MoascopeError, match="does not predict what train wrote: C"):
        project.ask()
    assert project.aliases() == {}


def test_a_hold_out_of_one_class_is_a_sentence(project):
    path = project.data / "split/groups.parquet"
    groups = pd.read_parquet(path)
    groups.loc[groups["Label"] == "gpcr", "Holdout"] = False
    groups.to_parquet(path)
    project.register(GOOD, trained_on=())
    with pytest.raises(MoascopeError, match="10 held-out compounds are all of one class"):
        project.ask()


def test_without_a_registry_nothing_is_made_and_one_sentence_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MoascopeError, match="There is no registry at"):
        promote(PARAMS, Path("data"), Path("reports/promote"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_named_with_its_remedy(project):
    with pytest.raises(MoascopeError, match="There is no registered model 'moascope' at"):
        project.ask()
    project.register(GOOD)
    with pytest.raises(MoascopeError, match=r"no version 7 of 'moascope'\. Its versions: 1\."):
        project.ask(version="7")
    project.client.delete_registered_model_alias("moascope", "candidate")
    with pytest.raises(MoascopeError, match="No version of 'moascope' is the candidate"):
        project.ask()
    shutil.rmtree("data/split")
    with pytest.raises(MoascopeError, match=r"not there: data/split\. Run `dvc repro"):
        project.ask(version="1")


# Two at once


TOGETHER = """
import sys, time
from pathlib import Path
from moascope.params_file import load_params
from moascope.promotion import promote as promotion

version, other = sys.argv[1:]
judge = promotion._judge

def both_scored(*arguments):
    found = judge(*arguments)
    Path(f"scored-{version}").touch()
    for _ in range(4000):
        if Path(f"scored-{other}").exists():
            return found
        time.sleep(0.05)
    raise SystemExit("the other one never came")

promotion._judge = both_scored
record = promotion.promote(load_params(), Path("data"), Path("reports/promote"), version=version)
print(record["decision"], record["incumbent"])
"""


def test_two_promotions_at_once_leave_the_better_one(project):
    """Both have scored before either writes; the second is asked again, against the first."""
    worse, better = project.register(GOOD), project.register(BETTER)
    Path("params.yaml").write_text(yaml.safe_dump(SECTIONS))
    Path("together.py").write_text(TOGETHER)
    started = [subprocess.Popen([sys.executable, "together.py", *pair], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=os.environ | {"PYTHONPATH": str(SOURCE)})
               for pair in ((worse, better), (better, worse))]
    said = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert project.aliases() == {"staging": better}
    told = history(project.client, "moascope").set_index("version")
    assert len(told) == 2
    assert told.loc[better, "decision"] == "promoted"
    if told.loc[worse, "decision"] == "promoted":
        assert told.loc[better, "incumbent"] == worse
    else:
        assert told.loc[worse, "incumbent"] == better
    assert "deciding again" in said[0][0] + said[1][0]


def test_a_holder_that_changes_while_the_candidate_is_scored_is_compared_with(project, monkeypatch,
                                                                              capsys):
    better, worse = project.register(BETTER), project.register(BAD)
    judge, calls = promotion._judge, []

    def overtaken(*arguments):
        found = judge(*arguments)
        if not calls:
            project.client.set_registered_model_alias("moascope", "staging", better)
        calls.append(found[0]["incumbent"])
        return found

    monkeypatch.setattr(promotion, "_judge", overtaken)
    assert project.ask(version=worse)["decision"] == "refused"
    assert calls == [None, better]
    assert "version 1 has become staging in the meantime; deciding again" in capsys.readouterr().out


def test_another_machine_that_moves_the_alias_while_this_one_writes_is_heard(project, monkeypatch):
    """A lock does not reach it; the holder is read again between the records and the alias."""
    from mlflow import MlflowClient

    better, worse = project.register(BETTER), project.register(GOOD)
    log_dict, calls = MlflowClient.log_dict, []

    def overtaken(self, *arguments):
        log_dict(self, *arguments)
        if not calls:
            project.client.set_registered_model_alias("moascope", "staging", better)
        calls.append(arguments)

    monkeypatch.setattr(MlflowClient, "log_dict", overtaken)
    assert project.ask(version=worse)["decision"] == "refused"
    assert project.aliases() == {"staging": better}
    assert history(project.client, "moascope")["decision"].tolist() == ["interrupted", "refused"]


def test_a_decision_that_was_cut_short_is_seen_to_be(project, monkeypatch):
    project.register(GOOD)
    from mlflow import MlflowClient

    with monkeypatch.context() as patched:
        def killed(*arguments):
            raise KeyboardInterrupt

        patched.setattr(MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            project.ask()
    assert history(project.client, "moascope")["decision"].tolist() == ["interrupted"]
    assert project.ask()["decision"] == "promoted"
    assert history(project.client, "moascope")["decision"].tolist() == ["interrupted", "promoted"]


def test_the_history_in_the_file_is_only_added_to(project):
    project.register(GOOD)
    project.ask()
    path = Path("reports/promote/history.csv")
    elsewhere = pd.read_csv(path, dtype=str, keep_default_na=False).assign(
        promotion_run="from another registry", when="2020-01-01T00:00:00+00:00")
    elsewhere.to_csv(path, index=False)
    project.register(BETTER)
    project.ask()
    kept = pd.read_csv(path, dtype=str, keep_default_na=False)
    # The other registry's row stays, and this one's first row comes back out of MLflow.
    assert kept["version"].tolist() == ["1", "1", "2"]
    assert kept["promotion_run"].iloc[0] == "from another registry"


# Features


def test_from_the_images_a_model_says_what_it_says_from_data_embed(tmp_path, capsys):
    """A model that was trained on other settings than data/embed's is asked by its own path."""
    data = fabricate(tmp_path, images=True, compounds=12)
    own = Prepare(crop=48, crops=1, flat_field=False)
    shutil.rmtree(data / "embed")
    work = tmp_path / "work"
    embed = Embed(backbone="morphology")
    names = tuple(features_of_screen(read_screen(data / "acquire"), own, embed, work).names)
    rng = np.random.default_rng(0)
    heads = FittedHeads(LINEAR, np.zeros((1, len(names)), np.float32),
                        np.ones((1, len(names)), np.float32),
                        [rng.normal(size=(1, len(names), 2)).astype(np.float32) * 0.01],
                        [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))
    shutil.copytree(work / "embed", data / "embed")
    model = model_of(GOOD, data, heads={"": heads}, names=names, prepare=own)
    write_trained(data, model, "run")
    contenders = {"candidate": Contender("1", "run", model)}
    found = {}
    for origin, prepare in (("data/embed", own), ("images", PARAMS.prepare)):
        params = PARAMS.model_copy(update={"prepare": prepare})
        pipeline = load_pipeline(data, params)
        examples, _ = unseen_hold_out(contenders, pipeline.examples, False)
        logits, origins = site_logits(contenders, pipeline, examples, jobs=1)
        assert origins == {"candidate": origin}
        _, tables = answers(contenders, examples, logits)
        assert check_served(contenders["candidate"], tables["candidate"], data / "train")
        found[origin] = tables["candidate"]
    pd.testing.assert_frame_equal(found["data/embed"], found["images"])
    assert "computing them from the images of 2 plates" in capsys.readouterr().err


def test_both_models_are_asked_about_the_same_sites(project):
    """What one of them could not read counts for neither."""
    pipeline = load_pipeline(project.data, PARAMS)
    contenders = {alias: Contender(version, "x", model_of(weights, project.data))
                  for alias, version, weights in (("candidate", "2", GOOD), ("staging", "1", BAD))}
    logits, _ = site_logits(contenders, pipeline, pipeline.examples)
    held_out = np.flatnonzero(pipeline.examples.groups["Holdout"].to_numpy()
                              [pipeline.examples.group] & (pipeline.examples.group >= 0))
    whole = answers(contenders, pipeline.examples, logits)[1]["candidate"]
    lost = pipeline.examples.group == pipeline.examples.group[held_out[0]]
    logits["staging"][lost] = np.nan
    _, tables = answers(contenders, pipeline.examples, logits)
    assert len(tables["candidate"]) == len(tables["staging"]) == len(whole) - 1
    assert tables["candidate"]["Metadata_Group"].equals(tables["staging"]["Metadata_Group"])


def test_the_published_numbers_are_those_of_scikit_learn(project):
    from sklearn.metrics import average_precision_score

    pipeline = load_pipeline(project.data, PARAMS)
    contenders = {"candidate": Contender("1", "x", model_of(GOOD, project.data))}
    logits, _ = site_logits(contenders, pipeline, pipeline.examples)
    examples, tables = answers(contenders, pipeline.examples, logits)
    numbers, counts = measure(examples, tables, None, Promote(resamples=100), 0,
                              pd.DataFrame({"Metadata_Compound": []}))
    table = tables["candidate"]
    assert numbers.average_precision == pytest.approx(
        average_precision_score(table["Label"] == "gpcr", table["P_gpcr"]))
    assert counts == {"compounds": 20, "positives": 10}
    assert numbers.prevalence == 0.5
    assert set(numbers.baselines) == set(Promote().beat)


# The command


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["moascope", "promote", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


def test_the_command_shows_every_requirement_and_ends_on_what_was_decided(project, monkeypatch,
                                                                           capsys):
    Path("params.yaml").write_text(yaml.safe_dump(SECTIONS))
    project.register(GOOD)
    status, out, _ = command(monkeypatch, capsys, "--dry-run")
    assert status == 0
    for words in ("requirement", "lift over a random list", "permutation p", "more than plate only",
                  "Dry run, nothing is written", "20 held-out compounds (10 positive)"):
        assert words in out
    assert project.aliases() == {}

    status, out, _ = command(monkeypatch, capsys)
    assert status == 0
    assert "Version 1 of 'moascope' is now staging, as the first version: average precision" in out
    status, out, _ = command(monkeypatch, capsys)
    assert (status, out) == (0, "Version 1 of 'moascope' already holds staging; nothing "
                                "changes.\n")

    project.register(CHANCE)
    status, out, err = command(monkeypatch, capsys)
    assert status == 1
    assert "NO" in out
    assert "error: Version 2 of 'moascope' is not promoted to staging; version 1 keeps it" in err
    assert "not met (promote.least_gain)." in err
    assert "Traceback" not in err

    status, out, err = command(monkeypatch, capsys, "--exit-zero")
    assert (status, err) == (0, "")
    assert "Version 2 of 'moascope' is not promoted to staging; version 1 keeps it" in out
    assert "  - The average precision differs by" in out
    assert out.endswith("The run itself is complete, and its results are valid.\n")
    assert project.aliases()["staging"] == "1"


def test_what_cannot_be_decided_ends_a_run_well_and_a_broken_model_does_not(project, monkeypatch,
                                                                           capsys):
    Path("params.yaml").write_text(yaml.safe_dump(SECTIONS))
    project.register(GOOD)
    groups = pd.read_parquet("data/split/groups.parquet")
    pd.DataFrame.to_parquet(groups.assign(Holdout=False), "data/split/groups.parquet")
    status, _, err = command(monkeypatch, capsys)
    assert status == 1 and "error: No held-out compound is left to score." in err
    status, out, err = command(monkeypatch, capsys, "--exit-zero")
    assert (status, err) == (0, "")
    assert out.startswith("The model stays a candidate: there is nothing to decide by.\n"
                          "  - No held-out compound is left to score.")
    Path("data/train/run.json").unlink()
    status, _, err = command(monkeypatch, capsys, "--exit-zero")
    assert status == 1 and "The gate needs what is not there: " in err


def test_a_registered_version_says_where_its_run_and_its_report_are():
    said = description_of({"target": "gpcr", "average_precision": "0.3", "caveat": "simulated"},
                          "a" * 32, "7")
    assert f"({run_address('7', 'a' * 32, 'evaluation/report.html')})" in said
    assert "> simulated" in said
