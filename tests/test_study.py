import optuna
import pytest
from test_crossvalidate import TRAIN, make_examples

from moascope.errors import MoascopeError
from moascope.evaluation.crossvalidate import Inner, fold_pairs
from moascope.evaluation.study import choices, open_study, study_name, suggest, top_up
from moascope.params import Head, Tune

SPACE = {"layers": [0], "epochs": [6], "dropout": {"low": 0.0, "high": 0.5},
         "l2": {"low": 1e-4, "high": 1e-1, "log": True}}


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
    assert choices(whole, [(0, 0)]) == choices(stopped, [(0, 0)])


def test_the_defaults_are_tried_first(examples, tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    run(study, examples, 1)
    assert study.trials[0].params["l2"] == Head().l2
    assert study.trials[0].params["dropout"] == Head().dropout


def test_each_fold_chooses_by_its_own_inner_scores_alone(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    # Two trials, two outer folds: each trial is the better one for one fold.
    for l2, scores in ((0.1, [5, 0.9, 0.1]), (0.01, [5, 0.2, 0.7])):
        study.add_trial(optuna.trial.create_trial(
            params={"l2": l2}, value=sum(scores[1:]) / 2,
            distributions={"l2": optuna.distributions.FloatDistribution(0.001, 1)},
            user_attrs={"inner_scores": [scores]}))
    chosen = choices(study, [(0, 0), (0, 1)])
    assert chosen["folds"]["0/0"]["l2"] == 0.1
    assert chosen["folds"]["0/1"]["l2"] == 0.01
    assert chosen["final"]["l2"] == 0.1
    assert chosen["final"]["epochs"] == 5


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


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"dropuot": [0.1]}, "'dropuot', which is no hyperparameter"),
        ({"dropout": 0.3}, "tune.space.dropout must be a list of choices or a range"),
        ({"dropout": {"low": 0.1}}, "tune.space.dropout must be"),
    ],
)
def test_a_space_that_makes_no_sense_is_a_sentence(space, sentence):
    trial = optuna.create_study().ask()
    with pytest.raises(MoascopeError) as error:
        suggest(trial, space)
    assert sentence in str(error.value)


def test_a_storage_that_does_not_answer_is_a_sentence_without_the_password():
    with pytest.raises(MoascopeError, match=r"tune\.storage") as error:
        open_study("nosuchdatabase://user:secret@127.0.0.1:1/x", "s")
    assert "secret" not in str(error.value)
