from dataclasses import replace

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import ROOT
from learnable import TRAIN, make_examples
from optuna.trial import TrialState

from moascope.errors import MoascopeError
from moascope.learning.nested import Inner, fold_pairs
from moascope.learning.space import drawn_by_default, settled, suggest
from moascope.learning.storage import open_study
from moascope.learning.study import study_name, top_up
from moascope.learning.trials import (
    CURVE,
    PARTS,
    candidates,
    choices,
    choose,
    study_tables,
)
from moascope.params import Head, Tune
from moascope.params_file import load_params, parse_params
from moascope.report.study import save_pictures, study_section

SPACE = {"layers": [0], "epochs": [6], "dropout": {"low": 0.0, "high": 0.5},
         "l2": {"low": 1e-4, "high": 1e-1, "log": True}}


KINDS = {"layers": [0, 1], "epochs": [10], "dropout": {"low": 0.0, "high": 0.5},
         "level": ["compound", "well"], "normalisation": ["plate"],
         "head": ["trees", "network", "logistic"]}


@pytest.fixture(scope="module")
def examples():
    return make_examples(compounds=18)


def run(study, examples, trials):
    seen = []
    ran = top_up(study, examples, Tune(trials=trials, space=SPACE), TRAIN, 0,
                 lambda study, trial: seen.append(trial.number))
    assert len(seen) == ran
    return ran


def test_trials_are_a_target_and_a_study_goes_on_where_it_stopped(examples, tmp_path):
    journal = str(tmp_path / "study.journal")
    assert run(open_study(journal, "s"), examples, 2) == 2
    assert run(open_study(journal, "s"), examples, 3) == 1
    assert run(open_study(journal, "s"), examples, 3) == 0
    stopped = open_study(journal, "s")
    whole = open_study(str(tmp_path / "other.journal"), "s")
    assert run(whole, examples, 3) == 3
    drawn = [trial.params["dropout"] for trial in whole.trials]
    assert len(set(drawn)) == 3
    assert drawn == [trial.params["dropout"] for trial in stopped.trials]
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    assert choices(whole, outer) == choices(stopped, outer)


def test_the_defaults_are_tried_first_or_what_the_space_has_next_to_them(examples, tmp_path):
    space = SPACE | {"l2": {"low": 0.1, "high": 1.0, "log": True}, "level": ["well", "site"],
                     "normalisation": ["plate+sphere", "plate"]}
    assert drawn_by_default(space) == {
        "layers": 0, "epochs": 6, "dropout": 0.0, "l2": 0.1, "level": "well",
        "normalisation": "plate"}
    study = open_study(str(tmp_path / "study.journal"), "s", Tune(space=space))
    top_up(study, examples, Tune(trials=1, space=space), TRAIN, 0, ignore)
    assert study.trials[0].params == drawn_by_default(space)


def test_the_shipped_study_begins_with_the_default_head():
    space = load_params(ROOT / "params.yaml").tune.space
    assert Head(**drawn_by_default(space)) == Head()


OUTER = [(repeat, fold) for repeat in range(2) for fold in range(4)]


def judged(*trials):
    """A study of trials, each a list of [epochs, parts of every outer fold, 8 x 3]."""
    study = optuna.create_study(direction="maximize")
    for number, stops in enumerate(trials):
        parts = [np.broadcast_to(part, (8, 3)) for _, part in stops]
        study.add_trial(optuna.trial.create_trial(
            params={"l2": 10.0 ** -number}, value=max(part.mean() for part in parts),
            distributions={"l2": optuna.distributions.FloatDistribution(1e-9, 1)},
            user_attrs={CURVE: [[epochs, *part.mean(axis=1).tolist()]
                                for (epochs, _), part in zip(stops, parts, strict=True)],
                        PARTS: [part.tolist() for part in parts]}))
    return study


def test_each_fold_chooses_by_its_own_inner_scores_alone():
    first, second = np.full((8, 3), 0.1), np.full((8, 3), 0.1)
    first[0], second[1] = 0.9, 0.7
    # After the default, two trials that are each the better one for one fold.
    chosen = choices(judged([[5, 0.0]], [[5, first]], [[6, second]]), OUTER)
    assert (chosen["folds"]["0/0"]["l2"], chosen["folds"]["0/0"]["epochs"]) == (0.1, 5)
    assert (chosen["folds"]["0/1"]["l2"], chosen["folds"]["0/1"]["epochs"]) == (0.01, 6)
    assert chosen["final"]["l2"] == 0.1


def test_a_candidate_that_luck_could_have_made_gives_way_to_the_default():
    # Of three inner folds, one gains much: 0.06 on average, with a standard error of 0.06.
    lucky = judged([[7, 0.05], [14, 0.1]], [[7, 0.1 + np.array([0.18, 0.0, 0.0])]])
    chosen = choose(candidates(lucky), OUTER, 0)
    assert (chosen.why, chosen.candidate.trial, chosen.candidate.epochs) == ("default", 0, 14)
    # Twice the standard error: one trial is believed, the best of eight is not.
    gain = 0.1 + 0.02 * np.sqrt(3) + np.array([0.03, 0.0, -0.03])
    for others, why in ((0, "best"), (7, "default")):
        several = judged([[14, 0.1]], [[7, gain]], *others * [[[7, 0.05]]])
        assert choose(candidates(several), OUTER, 0).why == why
    # The same gain in every inner fold.
    steady = judged([[14, 0.1]], [[7, 0.1 + np.array([0.07, 0.06, 0.05])]])
    chosen = choose(candidates(steady), OUTER, 0)
    assert (chosen.why, chosen.candidate.trial) == ("best", 1)


@pytest.mark.parametrize(("gain", "why"), [([0.3, 0.3, 0.3, 0.3], "best"),
                                           ([1.3, -0.05, -0.05, 0.0], "default")])
def test_for_the_final_head_a_fold_counts_once_however_many_models_it_is_an_inner_fold_of(
        gain, why):
    # What one fold gains shows in three outer folds: taken for three, it would look steady.
    parts = np.array([[0.1 + gain[inner] for inner in range(4) if inner != fold]
                      for _, fold in OUTER])
    chosen = choose(candidates(judged([[7, 0.1]], [[7, parts]])), OUTER)
    assert chosen.why == why
    assert (chosen.candidate.scores.mean() - 0.1) * (why == "best") == pytest.approx(
        0.3 * (why == "best"))


def test_where_nothing_explains_the_labels_the_default_head_is_taken_at_its_last_epoch():
    chosen = choose(candidates(judged([[7, -0.1], [14, -0.3]], [[7, -0.01]])), OUTER)
    assert (chosen.why, chosen.candidate.trial, chosen.candidate.epochs) == ("chance", 0, 14)
    assert chosen.best.trial == 1


def test_what_the_inner_folds_add_is_the_score(examples, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    run(study, examples, 1)
    for one in candidates(study):
        assert one.parts.shape == (6, 2)
        np.testing.assert_allclose(one.parts.mean(axis=1), one.scores)
        assert np.ptp(one.parts, axis=1).min() > 0


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_a_study_may_judge_simple_models_too(kind, examples, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    space = {"head": [kind], "normalisation": ["plate"], "level": ["compound"]}
    top_up(study, examples, Tune(trials=1, space=space), TRAIN, 0, ignore)
    assert study.best_value > 0
    assert len(candidates(study)) == 1


def test_other_kinds_of_head_are_tried_once_each_and_all_other_trials_are_networks(
        examples, tmp_path, monkeypatch):
    # The last trials are TPE's proposals, whatever the first ones scored.
    monkeypatch.setattr("moascope.learning.storage.STARTUP", 4)
    study = open_study(str(tmp_path / "study.journal"), "s", Tune(space=KINDS))
    top_up(study, examples, Tune(trials=7, space=KINDS), TRAIN, 0, ignore)
    drawn = [trial.params for trial in study.trials]
    assert [one["head"] for one in drawn] == ["network", "trees", "logistic", *["network"] * 4]
    assert drawn[0] == {"head": "network", "layers": 0, "dropout": 0.0, "level": "compound",
                        "normalisation": "plate", "epochs": 10}
    # A simple model has its rows and their features alone.
    assert drawn[1] == {"head": "trees", "level": "compound", "normalisation": "plate"}
    assert len({one["dropout"] for one in drawn if "dropout" in one}) == 5
    assert {one.trial for one in candidates(study)} == set(range(7))
    table = study_tables(study)
    assert table["trials"]["head"].tolist() == [one["head"] for one in drawn]
    assert set(table["parameters"]["parameter"]) == {"layers", "dropout", "level"}


def test_without_a_study_the_defaults_are_chosen(examples):
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    chosen = choices(None, outer)
    assert Head(**chosen["final"]) == Head()
    assert len(chosen["folds"]) == len(outer) == 6


def test_a_study_of_other_data_has_another_name(examples):
    other = make_examples(compounds=18, seed=1)
    name = study_name(examples, SPACE, TRAIN, "gpcr", "code")
    assert name == study_name(make_examples(compounds=18), SPACE, TRAIN, "gpcr", "code")
    assert name != study_name(other, SPACE, TRAIN, "gpcr", "code")
    assert name != study_name(examples, SPACE, TRAIN, "gpcr", "other code")
    assert name != study_name(examples, {}, TRAIN, "gpcr", "code")


@pytest.mark.parametrize("column", [
    "Metadata_Plate", "Metadata_Well", "Metadata_Panel", "Metadata_Concentration_uM",
    "Metadata_Control"])
def test_what_decides_how_rows_are_averaged_or_normalised_is_in_the_studys_name(examples, column):
    meta = examples.meta.copy()
    meta.loc[3, column] = 7.0 if column.endswith("uM") else "other"
    name = study_name(examples, SPACE, TRAIN, "gpcr", "code")
    assert name != study_name(replace(examples, meta=meta), SPACE, TRAIN, "gpcr", "code")


def test_panels_question_and_feature_names_are_in_the_studys_name(examples):
    name = study_name(examples, SPACE, TRAIN, "gpcr", "code")
    for other in (replace(examples, panels=("a", "b")),
                  replace(examples, names=tuple(f"X_{i}" for i in range(len(examples.names)))),
                  replace(examples, question=replace(examples.question, unit="well"))):
        assert name != study_name(other, SPACE, TRAIN, "gpcr", "code")


def test_proposals_depend_on_the_seed_and_not_on_the_name_of_the_study(tmp_path):
    def drawn(name, seed):
        study = open_study(str(tmp_path / f"{name}{seed}.journal"), name, seed=seed)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=14)
        return [trial.params["x"] for trial in study.trials]

    assert drawn("gpcr 1a2b", 0) == drawn("gpcr 3c4d", 0) != drawn("gpcr 1a2b", 1)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"dropuot": [0.1]}, "'dropuot', which is not a hyperparameter"),
        ({"dropout": 0.3}, "tune.space.dropout must be a list of choices or a range"),
        ({"dropout": {"low": 0.1}}, "tune.space.dropout must be"),
        ({"dropout": {"low": 0.1, "hi": 0.6}}, "tune.space.dropout must be"),
        ({"l2": {"low": "1e-4", "high": 1.0, "log": True}}, "YAML takes 1e-4 for a word"),
        ({"l2": {"low": 0, "high": 1.0, "log": True}}, "on a log scale it must be above 0"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, "low must not be above high"),
        ({"dropout": {"low": 0.5, "high": 1.2}}, "tune.space.dropout: 1.2 cannot be used"),
        ({"activation": ["relu", "elu"]}, "tune.space.activation: 'elu' cannot be used"),
    ],
)
def test_a_space_that_makes_no_sense_is_a_sentence(space, sentence):
    study = optuna.create_study()
    with pytest.raises(MoascopeError) as error:
        suggest(study.ask(), space)
    assert sentence in str(error.value)
    with pytest.raises(MoascopeError) as error:
        top_up(optuna.create_study(), None, Tune(trials=1, space=space), TRAIN, 0, lambda *_: None)
    assert sentence in str(error.value)


def test_a_trial_that_is_pruned_is_trained_no_further_and_its_epochs_stay_candidates(
        examples, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    run(study, examples, 1)
    study.pruner = optuna.pruners.ThresholdPruner(lower=2.0)
    run(study, examples, 2)
    whole, pruned = study.trials
    assert (whole.state, pruned.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert [row[0] for row in whole.user_attrs[CURVE]] == [1, 2, 3, 4, 5, 6]
    assert [row[0] for row in pruned.user_attrs[CURVE]] == [1]
    assert {one.trial for one in candidates(study)} == {0, 1}


def test_the_last_epochs_are_judged_too(examples, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    top_up(study, examples, Tune(trials=1, space=SPACE | {"epochs": [7]}), TRAIN, 0, ignore)
    assert [one.epochs for one in candidates(study)] == [2, 4, 6, 7]


def ignore(study, trial):
    pass


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_hopeless_trials_are_pruned_unless_nobody_wants_it(pruner, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s", Tune(pruner=pruner))
    pruned = []
    for number in range(30):
        trial = study.ask()
        for epoch in (7, 14, 21, 28, 35, 40):
            # Every other trial is worse from its first epoch on.
            trial.report(number % 2, epoch)
            if epoch < 40 and trial.should_prune():
                pruned.append(number)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, number % 2)
    assert bool(pruned) == (pruner != "none")
    assert all(number % 2 == 0 for number in pruned)
    if pruner == "median":
        assert pruned == list(range(6, 30, 2)), "five trials to compare with come first"


def test_no_label_of_an_outer_fold_takes_part_in_its_choice(examples, tmp_path):
    flipped = examples.groups.copy()
    inside = flipped["Fold_0"] == 0
    flipped.loc[inside, "Label"] = [
        "t" if label == "not_t" else "not_t" for label in flipped.loc[inside, "Label"]]
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    scores = []
    for number, told in enumerate((examples, replace(examples, groups=flipped, _cache={}))):
        # Both studies draw the same heads.
        study = open_study(str(tmp_path / f"{number}.journal"), "s")
        run(study, told, 2)
        scores.append(np.array([one.scores for one in candidates(study)]))
    one, other = scores
    np.testing.assert_allclose(one[:, outer.index((0, 0))], other[:, outer.index((0, 0))],
                               atol=1e-6)
    assert np.abs(one[:, outer.index((0, 1))] - other[:, outer.index((0, 1))]).max() > 1e-3


def made_up(trials=40, pruned=()):
    """A study in which dropout decides and width does nothing."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", study_name="s")
    space = {"dropout": optuna.distributions.FloatDistribution(0, 0.6),
             "l2": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
             "width": optuna.distributions.CategoricalDistribution([16, 32]),
             "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu"]),
             "epochs": optuna.distributions.CategoricalDistribution([40])}
    for number in range(trials):
        drawn = {"dropout": rng.uniform(0, 0.6), "l2": 10 ** rng.uniform(-4, 0),
                 "width": int(rng.choice([16, 32])), "epochs": 40,
                 "activation": str(rng.choice(["relu", "gelu"]))}
        score = 0.3 - (drawn["dropout"] - 0.2) ** 2
        curve = [[7, score - 0.02, score], [14, score, score]]
        gone = number in pruned
        study.add_trial(optuna.create_trial(
            params=drawn, distributions=space, value=None if gone else score,
            state=TrialState.PRUNED if gone else TrialState.COMPLETE,
            user_attrs={CURVE: curve[: 1 if gone else 2],
                        PARTS: [[[value] for value in scores] for _, *scores in curve]}))
    return study


def test_importance_finds_what_decides():
    tables = study_tables(made_up(pruned=range(20, 30)))
    found = tables["parameters"].set_index("parameter")
    assert found.index[0] == "dropout"
    assert found.loc["dropout", "importance"] > 0.5
    assert found["importance"].sum() == pytest.approx(1)
    assert found["scale"].to_dict() == {"dropout": "linear", "l2": "log", "width": "choice",
                                        "activation": "choice"}


def test_importance_of_a_few_trials_is_not_claimed():
    tables = study_tables(made_up(19))
    assert tables["parameters"]["importance"].isna().all()
    assert sorted(tables["parameters"]["parameter"]) == ["activation", "dropout", "l2", "width"]


def test_tables_tell_every_ended_trial_and_the_best_so_far():
    trials = study_tables(made_up(12, pruned=[3]))["trials"]
    assert trials["trial"].tolist() == list(range(12))
    assert trials.loc[3, "state"] == "pruned"
    assert trials.loc[3, "epochs"] == 7
    assert trials.loc[4, "epochs"] == 14
    assert trials["best"].is_monotonic_increasing
    assert trials["best"].iloc[-1] == trials["score"].max()
    assert "value" not in trials


def test_a_study_is_shown_in_the_report_and_as_pictures(tmp_path):
    tables = study_tables(made_up(pruned=[30, 31]))
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    section = study_section(tmp_path)
    assert section["trials"] == 40
    assert section["pruned"] == 2
    assert section["best"] == tables["trials"]["score"].idxmax()
    for name in ("history", "curves", "importance", "slice"):
        assert section[name].startswith("<svg")
    assert "dropout" in section["importance"]
    assert "mathdefault" not in section["slice"]
    assert section == study_section(tmp_path), "the same input gives the same bytes"
    save_pictures(tmp_path, tables)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"history", "curves", "importance",
                                                              "slice"}


@pytest.mark.parametrize(("taken", "lower", "words"), [
    (None, 0.0, "uses the settings of trial {best}."),
    (0, 0.0, "uses the default settings of trial 0: trial {best} scores higher, but by less than"),
    (0, 1.0, "uses the default settings of trial 0: no trial explains the inner labels."),
])
def test_the_report_says_which_trial_the_final_model_is_of(taken, lower, words, tmp_path):
    study = made_up()
    best = int(study_tables(study)["trials"]["score"].idxmax())
    tables = study_tables(study, best if taken is None else taken)
    tables["trials"]["score"] -= lower
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert words.format(best=best) in study_section(tmp_path)["taken"]


def test_a_study_of_one_trial_and_of_none_can_be_shown(tmp_path):
    assert study_section(tmp_path) == {}
    for count in (1, 0):
        tables = study_tables(made_up(count))
        for name, table in tables.items():
            table.to_csv(tmp_path / f"{name}.csv", index=False)
        shown = study_section(tmp_path)
        assert ("history" in shown) == bool(count)
        assert "importance" not in shown
    pd.testing.assert_index_equal(
        tables["trials"].columns, pd.Index(["trial", "state", "score", "best", "epochs", "taken"]))


WIDE = {"layers": [0, 1], "normalisation": ["plate", "plate+sphere"],
        "level": ["compound", "site"]}


@pytest.mark.parametrize(("train", "space"), [
    ({}, WIDE),
    ({"dropout": 0.3, "epochs": 10}, WIDE),
    ({"normalisation": "moderated+sphere", "selection": "distinct"},
     WIDE | {"normalisation": ["moderated+sphere"], "selection": ["distinct"]}),
    ({"head": "tuned"}, WIDE | {"head": ["network", "logistic", "neighbours", "trees"]}),
    ({"head": "tuned", "level": "well"},
     WIDE | {"level": ["well"], "head": ["network", "logistic", "neighbours", "trees"]}),
    # A simple model ignores the study.
    ({"head": "trees", "level": "well"}, WIDE),
])
def test_a_study_judges_heads_on_the_rows_and_features_that_train_has_settled(train, space):
    assert settled(parse_params({"tune": {"space": WIDE}, "train": train})).space == space


def test_the_space_may_name_the_kinds_of_head_and_a_network_has_the_last_word():
    given = {"tune": {"space": WIDE | {"head": ["network", "trees"]}, "trials": 3}}
    assert settled(parse_params(given | {"train": {"head": "tuned"}})).space["head"] == [
        "network", "trees"]
    study = settled(parse_params(given))
    assert study.space["head"] == ["network"] and study.trials == 3
