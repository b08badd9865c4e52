"""Features on disk are scored as those in memory are."""

import numpy as np
import pandas as pd
import pytest
from learnable import TRAIN, laid_on_disk, make_examples, with_plate_controls

from moascope.evaluation.baselines import evaluate_baselines
from moascope.evaluation.batches import predict_unseen_batches, score_unseen_batches
from moascope.evaluation.controls import evaluate_mechanisms
from moascope.evaluation.references import evaluate_references
from moascope.explanation.out_of_fold import evaluate_groups
from moascope.features import disk
from moascope.params import Evaluate, Head

SETTINGS = Evaluate(bootstraps=50, permutations=50, refits=1)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    rng = np.random.default_rng(0)
    memory = with_plate_controls(make_examples(compounds=27, panels=2, effect=1.0), rng)
    memory.meta["Metadata_Batch"] = np.where(
        memory.meta["Metadata_Concentration_uM"] == 0, "one", "two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "PIECE", 4 * 20 * 31)
        patch.setattr(disk, "MOST_IN_MEMORY", 0)
        yield memory, laid_on_disk(memory, tmp_path_factory.mktemp("disk"))


def flat(found, name=""):
    """All numbers of nested dicts and tables."""
    if isinstance(found, pd.DataFrame):
        found = found.select_dtypes("number").dropna(axis=1).to_dict()
    if isinstance(found, dict):
        return {key: value for own, part in found.items()
                for key, value in flat(part, f"{name} {own}").items()}
    return {} if isinstance(found, str) else {name: found}


def score_batches(examples, head, train, settings, seed):
    return score_unseen_batches(predict_unseen_batches(examples, head, train, seed),
                                examples.question, settings, seed)


@pytest.mark.parametrize("kind", ["logistic", "neighbours"])
@pytest.mark.parametrize("score", [evaluate_baselines, score_batches, evaluate_groups])
def test_what_is_trained_again_to_be_scored_is_scored_the_same(both, score, kind):
    head = Head(head=kind, normalisation="plate+sphere", level="compound")
    found = []
    for examples in both:
        compounds = examples.groups.assign(P_t=0.5, P_not_t=0.5)
        given = (compounds, examples) if score is evaluate_baselines else (examples,)
        found.append(flat(score(*given, head, TRAIN, SETTINGS, seed=0)))
    assert len(found[0]) > 5
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-3)


def test_references_and_mechanisms_are_the_same(both):
    compounds = both[0].groups.assign(P_t=0.5, P_not_t=0.5)
    memory, large = ({**evaluate_references(compounds, examples, SETTINGS, 0),
                      **evaluate_mechanisms(examples, SETTINGS, 0)} for examples in both)
    assert set(memory) == {"logistic", "neighbours", "trees", "a", "b"}
    assert flat(large) == pytest.approx(flat(memory), rel=1e-3, abs=1e-3)
