from learnable import HEAD, TRAIN, make_examples

from moascope.evaluation.leak import evaluate_leak
from moascope.params import Evaluate

FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def test_a_random_image_split_finds_what_is_not_there():
    examples = make_examples(compounds=45, effect=0.0, well_noise=1.5)
    leak = evaluate_leak(examples, HEAD, TRAIN, FEW, seed=0)
    assert leak["valid"] is False
    prevalence = leak["true_labels"]["site"]["prevalence"]
    assert leak["true_labels"]["site"]["average_precision"] > 1.5 * prevalence
    assert leak["shuffled_labels"]["site"]["average_precision"] > 1.5 * prevalence
    # The same head finds nothing where the split alone differs.
    honest = leak["same_head_grouped"]["site"]["average_precision"]
    assert honest < 1.5 * prevalence < leak["true_labels"]["site"]["average_precision"]


def test_shuffled_labels_stay_shuffled_for_every_image_of_a_compound():
    """Where images of a compound share nothing, memory of it finds nothing either."""
    examples = make_examples(compounds=45, effect=0.0, well_noise=0.0)
    leak = evaluate_leak(examples, HEAD, TRAIN, FEW, seed=0)
    shuffled = leak["shuffled_labels"]["site"]
    assert shuffled["average_precision"] < 1.5 * shuffled["prevalence"]
