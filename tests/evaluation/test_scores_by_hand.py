"""Every number of a table of scores against scikit-learn's, draw by draw."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from moascope.evaluation.scores import (
    brief_scores,
    evaluate_predictions,
    score_table,
    scores_of,
    unit_scores,
)
from moascope.metrics import bootstrap_weights, null_mean
from moascope.params import Evaluate
from moascope.screen.question import Question

BINARY = Question("t", ("not_t", "t"), binary=True)
SEVERAL = Question("moa", ("a", "b", "c"), binary=False)
SETTINGS = Evaluate(bootstraps=30, permutations=40)
SEED = 3


def macro(label, score, classes, weights=None):
    """Mean over the classes that a weighting leaves."""
    weights = np.ones(len(label)) if weights is None else weights
    return np.mean([sk.average_precision_score(label == c, score[:, c], sample_weight=weights)
                    for c in classes if weights[label == c].sum()])


def resampled(label, score, classes, cluster):
    """The 95 % interval over compounds, widened to its value."""
    names, code = np.unique(cluster, return_inverse=True)
    drawn = np.random.default_rng(SEED).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=SETTINGS.bootstraps)[:, code]
    values = [macro(label, score, classes, weights) for weights in drawn]
    return np.percentile([*values], [2.5, 97.5])


def shuffled(label, cluster):
    """Labels dealt anew to the compounds."""
    _, first, code = np.unique(cluster, return_index=True, return_inverse=True)
    rng = np.random.default_rng(SEED)
    return [rng.permutation(label[first])[code] for _ in range(SETTINGS.permutations)]


def brief(label, score, classes, cluster=None):
    """What `brief_scores` says, by scikit-learn."""
    cluster = np.arange(len(label)) if cluster is None else cluster
    observed = macro(label, score, classes)
    low, high = resampled(label, score, classes, cluster)
    chance = np.mean([null_mean(len(label), (label == c).sum()) for c in classes])
    few = np.mean([len(set(cluster[label == c])) for c in classes]) < 5
    return {"average_precision": observed,
            "low": None if few else min(low, observed),
            "high": None if few else max(high, observed),
            "prevalence": np.mean([(label == c).mean() for c in classes]),
            "null_mean": chance, "lift": observed / chance}


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (value if value is None else pytest.approx(value, nan_ok=True)), key


def case(classes, n, per_compound=1, seed=0):
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n // per_compound), per_compound)
    label = (cluster * 7 + cluster // 3) % classes
    probability = rng.dirichlet(np.ones(classes), n)
    probability[np.arange(n), label] += 0.3
    probability /= probability.sum(axis=1, keepdims=True)
    predicted = (probability + 0.2 * rng.random(probability.shape)).argmax(axis=1)
    return label, probability, predicted, cluster


@pytest.mark.parametrize(("question", "per_compound", "n"), [
    (BINARY, 1, 24), (BINARY, 3, 48), (SEVERAL, 1, 24), (SEVERAL, 3, 72), (BINARY, 1, 9)])
def test_a_table_of_scores_is_that_of_scikit_learn_number_by_number(question, per_compound, n):
    count = len(question.classes)
    label, probability, predicted, cluster = case(count, n, per_compound)
    scored = [1] if question.binary else [0, 1, 2]
    found = score_table(question, label, probability, predicted, cluster, SETTINGS, SEED)
    observed = macro(label, probability, scored)
    null = [macro(dealt, probability, scored) for dealt in shuffled(label, cluster)]
    exact = np.mean([null_mean(n, (label == c).sum()) for c in scored])
    chance = exact if per_compound == 1 else np.mean(null)
    whole = brief(label, probability, scored, cluster)
    expected = {
        "n": n, "compounds": n // per_compound, "average_precision": observed,
        "low": whole["low"], "high": whole["high"], "prevalence": whole["prevalence"],
        "lift": observed / chance,
        "normalised_average_precision": (observed - chance) / (1 - chance),
        "null_mean": chance, "null_low": np.percentile(null, 2.5),
        "null_high": np.percentile(null, 97.5),
        "p": (1 + sum(value >= observed - 1e-12 for value in null)) / (1 + len(null)),
        "roc_auc": np.mean([sk.roc_auc_score(label == c, probability[:, c]) for c in scored]),
        "brier": np.mean([sk.brier_score_loss(label == c, probability[:, c])
                          for c in range(count)]) * count / 2,
        "log_loss": sk.log_loss(label, probability),
        "accuracy": sk.accuracy_score(label, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(label, predicted),
    }
    for top in (10, 20):
        if n >= top:
            expected[f"precision_at_{top}"] = np.mean([
                np.mean(label[np.argsort(-probability[:, c])[:top]] == c) for c in scored])
    confusion, of_class = found.pop("confusion"), found.pop("per_class", None)
    assert confusion == sk.confusion_matrix(label, predicted).tolist()
    if question.binary:
        expected["positives"] = int((label == 1).sum())
    else:
        assert list(of_class) == ["a", "b", "c"]
        for c, own in enumerate(of_class.values()):
            one = brief(label, probability, [c], cluster) | {
                "n": (label == c).sum(),
                "recall": sk.recall_score(label == c, predicted == c)}
            if per_compound > 1:
                one["null_mean"] = np.mean([macro(dealt, probability, [c])
                                            for dealt in shuffled(label, cluster)])
                one["lift"] = one["average_precision"] / one["null_mean"]
            same(own, one)
    same(found, expected)


def test_a_class_that_is_predicted_and_never_true_does_not_count_as_missed():
    """Recall 1/2 of a and 1 of b; nothing is a c."""
    label = np.array([0, 0, 1])
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]])
    found = score_table(SEVERAL, label, probability, probability.argmax(1), np.arange(3),
                        SETTINGS, SEED)
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert list(found["per_class"]) == ["a", "b"]
    assert found["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_certain_mistake_costs_a_bounded_log_loss():
    probability = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = score_table(BINARY, np.array([0, 1]), probability, np.zeros(2, int), np.arange(2),
                        SETTINGS, SEED)
    assert found["log_loss"] == pytest.approx(-np.log(1e-7) / 2)
    assert found["roc_auc"] == pytest.approx(0.5)


@pytest.mark.parametrize("classes", [2, 3])
def test_brief_scores_are_those_of_scikit_learn(classes):
    label, score, _, cluster = case(classes, 36, 2)
    scored = [1] if classes == 2 else [0, 2]
    drawn = bootstrap_weights(cluster, SETTINGS.bootstraps, SEED)
    same(brief_scores(label, score, scored, drawn, cluster), brief(label, score, scored, cluster))
    # A class without a row is left out, and rows are compounds where nothing is said.
    drawn = bootstrap_weights(np.arange(36), SETTINGS.bootstraps, SEED)
    wider = np.column_stack([score, np.ones(36)])
    same(brief_scores(label, wider, [*scored, classes], drawn), brief(label, score, scored))


def test_an_interval_counts_compounds_and_not_their_rows():
    """Four compounds of six images each are too few; twenty-four compounds are not."""
    label = np.repeat([1, 0], [24, 24])
    score = np.random.default_rng(0).normal(size=(48, 2))
    images = np.repeat(np.arange(8), 6)
    drawn = bootstrap_weights(images, 20, 0)
    assert brief_scores(label, score, [1], drawn, images)["low"] is None
    assert brief_scores(label, score, [1], drawn)["low"] is not None


def test_units_are_scored_by_their_log_softmax_and_by_those_that_count():
    question = Question("moa", ("a", "b", "c"), False, untestable=("c",))
    label, _, _, _ = case(3, 30)
    logits = np.random.default_rng(1).normal(size=(30, 3)) * 4
    shown = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    keep = label != 2
    same(unit_scores(label, logits, question, SETTINGS, SEED), brief(label[keep], shown[keep],
                                                                     [0, 1]))


def test_too_little_to_score_is_none():
    table = pd.DataFrame({"Label": ["t", "t", "not_t"], "Metadata_Group": ["x", "y", "z"],
                          "Predicted": "t", "P_not_t": 0.4, "P_t": 0.6})
    assert scores_of(table[:2], BINARY, SETTINGS, SEED) is None
    assert scores_of(table[:0], BINARY, SETTINGS, SEED) is None
    assert scores_of(table, BINARY, SETTINGS, SEED)["n"] == 3


def test_rows_of_one_compound_are_drawn_together():
    label, probability, predicted, cluster = case(2, 40, 4)
    table = pd.DataFrame({
        "Label": np.array(BINARY.classes)[label], "Predicted": np.array(BINARY.classes)[predicted],
        "Metadata_Group": [f"g{number:02d}" for number in cluster],
        "P_not_t": probability[:, 0], "P_t": probability[:, 1]})
    found = scores_of(table, BINARY, SETTINGS, SEED)
    expected = score_table(BINARY, label, probability, predicted, cluster, SETTINGS, SEED)
    assert found == expected and found["compounds"] == 10


# By side, panel, dose, mechanism and action


def predictions(question, compounds=18, sites=4):
    """Sites of compounds, half of each at one dose and panel; the last three are held out."""
    rng = np.random.default_rng(5)
    names = question.classes
    rows = pd.DataFrame({
        "Metadata_Group": [f"g{i:02d}" for i in range(compounds) for _ in range(sites)],
        "Metadata_Panel": ["one", "one", "two", "two"] * compounds,
        "Metadata_Concentration_uM": [0.5, 10.0] * (2 * compounds),
        "Label": [names[i % len(names)] for i in range(compounds) for _ in range(sites)],
        "Split": ["held_out" if i >= compounds - 4 else "out_of_fold"
                  for i in range(compounds) for _ in range(sites)]})
    probability = rng.dirichlet(np.ones(len(names)), len(rows))
    rows[question.probabilities] = probability
    rows["Predicted"] = np.array(names)[probability.argmax(axis=1)]
    return rows


def compounds_of(sites, question):
    rows = sites.groupby("Metadata_Group", as_index=False).agg(
        {"Label": "first", "Split": "first",
         **dict.fromkeys(question.probabilities, "mean")})
    return rows.assign(Predicted=np.array(question.classes)[
        rows[question.probabilities].to_numpy().argmax(axis=1)])


def groups_of(compounds):
    return pd.DataFrame({
        "Metadata_Group": compounds["Metadata_Group"],
        "Metadata_MoA": ["" if i % 4 == 0 else "x|y" if i % 3 == 0 else "x"
                         for i in range(len(compounds))],
        "gpcr_action": ["agonist" if i % 2 else "" for i in range(len(compounds))]})


@pytest.mark.parametrize("question", [BINARY, SEVERAL])
def test_each_side_and_each_panel_and_dose_is_scored_by_its_own_rows(question):
    sites = predictions(question)
    compounds = compounds_of(sites, question)
    examples = SimpleNamespace(question=question, groups=groups_of(compounds))
    found = evaluate_predictions({"site": sites, "compound": compounds}, examples, SETTINGS, SEED)
    for level, table in (("site", sites), ("compound", compounds)):
        for side in ("out_of_fold", "held_out"):
            assert found[side][level] == scores_of(table[table["Split"] == side], question,
                                                   SETTINGS, SEED)
    inside = sites[sites["Split"] == "out_of_fold"]
    for key, column, names in (("by_panel", "Metadata_Panel", {"one": "one", "two": "two"}),
                               ("by_concentration_uM", "Metadata_Concentration_uM",
                                {"0.5": 0.5, "10": 10.0})):
        assert list(found[key]) == list(names)
        for name, value in names.items():
            part = inside[inside[column] == value]
            logs = np.log(part[question.probabilities]).groupby(part["Metadata_Group"]).mean()
            label = question.index(part.groupby("Metadata_Group")["Label"].first())
            same(found[key][name], brief(label, logs.to_numpy(), question.scored)
                 | {"compounds": len(label)})
    assert ("by_mechanism" in found) == ("by_action" in found) == question.binary


def test_positives_of_a_kind_are_scored_against_all_negatives():
    sites = predictions(BINARY)
    compounds = compounds_of(sites, BINARY)
    groups = groups_of(compounds)
    found = evaluate_predictions({"site": sites, "compound": compounds},
                                 SimpleNamespace(question=BINARY, groups=groups), SETTINGS, SEED)
    inside = (compounds["Split"] == "out_of_fold").to_numpy()
    positive = (compounds["Label"] == "t").to_numpy()
    for key, column in (("by_mechanism", "Metadata_MoA"), ("by_action", "gpcr_action")):
        kinds = {part for value in groups[column][positive & inside] for part in value.split("|")}
        assert list(found[key]) == sorted(kinds - {""})
        for kind, scores in found[key].items():
            own = groups[column].str.split("|").map(lambda parts, k=kind: k in parts).to_numpy()
            keep = inside & (~positive | own)
            label = (positive & own)[keep].astype(int)
            score = compounds["P_t"].to_numpy()[keep]
            same(scores, brief(label, np.column_stack([-score, score]), [1])
                 | {"compounds": label.sum()})


def test_a_probability_of_zero_counts_as_one_in_ten_million():
    sites = predictions(BINARY)
    sites.loc[sites.index[::5], ["P_not_t", "P_t"]] = [1.0, 0.0]
    compounds = compounds_of(sites, BINARY)
    examples = SimpleNamespace(question=BINARY, groups=groups_of(compounds))
    found = evaluate_predictions({"site": sites, "compound": compounds}, examples, SETTINGS, SEED)
    part = sites[(sites["Split"] == "out_of_fold") & (sites["Metadata_Panel"] == "two")]
    logs = np.log(part[["P_not_t", "P_t"]].clip(lower=1e-7)).groupby(part["Metadata_Group"]).mean()
    label = BINARY.index(part.groupby("Metadata_Group")["Label"].first())
    assert found["by_panel"]["two"]["average_precision"] == pytest.approx(
        sk.average_precision_score(label, logs["P_t"]))


def test_a_single_panel_is_not_compared_with_itself_and_wells_have_no_mechanism():
    sites = predictions(BINARY).assign(Metadata_Panel="one")
    compounds = compounds_of(sites, BINARY)
    groups = groups_of(compounds)
    found = evaluate_predictions({"site": sites, "compound": compounds},
                                 SimpleNamespace(question=BINARY, groups=groups), SETTINGS, SEED)
    assert found["by_panel"] == {} and len(found["by_concentration_uM"]) == 2
    of_wells = SimpleNamespace(question=Question("t", ("not_t", "t"), True, "well"), groups=groups)
    found = evaluate_predictions({"site": sites, "compound": compounds}, of_wells, SETTINGS, SEED)
    assert "by_mechanism" not in found and "by_action" not in found
