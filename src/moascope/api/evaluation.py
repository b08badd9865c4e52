"""Scores next to their nulls."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from moascope.api.learning import CrossValidation
from moascope.errors import MoascopeError
from moascope.evaluation.baselines import evaluate_baselines
from moascope.evaluation.chemistry import evaluate_chemistry, with_chemistry
from moascope.evaluation.protocol import headline
from moascope.evaluation.references import evaluate_references
from moascope.evaluation.scores import evaluate_predictions
from moascope.params_file import parse_params
from moascope.report.chemistry import chemistry_sentence
from moascope.report.scores import compared
from moascope.screen.tables import Screen

BOTH = "features and structure"
COLUMNS = ("average_precision", "low", "high", "prevalence", "null_mean", "lift", "p")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of a cross-validation, next to what sees no biology.

    Attributes
    ----------
    table : DataFrame
        One row for the model, each reference (simple models of the same features) and each
        baseline, indexed by name: `kind` ("model", "reference", "baseline", "invalid", "memory" or,
        for the model's and the structure's mean rank, "both"), `average_precision` (macro over
        classes where there are several), `low` and `high` (95 % bootstrap interval over compounds;
        none below five hits), `prevalence`, `null_mean` (what a random list scores on average),
        `lift` (average precision / null_mean) and the model's permutation `p`.
    metrics : dict
        All scores, as in `reports/evaluate/metrics.json`: `out_of_fold` by level, `baselines`,
        `by_panel`, `by_concentration_uM` and others.
    result : CrossValidation
        What was scored.
    chemistry : str
        What the features alone, structure alone and both together reach, in a sentence, or why
        that is not known; empty where `evaluate` was given no screen.
    """

    table: pd.DataFrame
    metrics: Mapping[str, Any]
    result: CrossValidation
    chemistry: str = ""

    def __repr__(self) -> str:
        return f"Evaluation({headline(dict(self.metrics))})"


def evaluate(result: CrossValidation, screen: Screen | None = None, *, bootstraps: int = 1000,
             permutations: int = 1000, refits: int = 5, leak: bool = False) -> Evaluation:
    """Score out-of-fold predictions of compounds, next to chance and all baselines.

    Parameters
    ----------
    result : CrossValidation
    screen : Screen, optional
        Its annotations are read for `Metadata_SMILES` or `Metadata_InChI`: what the structure of
        the compounds tells alone, and with the features, on the same folds.
    bootstraps : int
        Resamples of compounds for each interval.
    permutations : int
        Of the compounds' labels for each p-value.
    refits : int
        Models trained on shuffled labels, on the same folds; 0 leaves this baseline out.
    leak : bool
        Whether to also compute what a random split by image would claim. It is invalid, because
        images of one compound are on both sides, and is marked so.

    Returns
    -------
    Evaluation

    Raises
    ------
    MoascopeError
        Where fewer than two classes can be scored.

    Warns
    -----
    UserWarning
        For structures that RDKit cannot read.

    Notes
    -----
    Average precision is that of `sklearn.metrics.average_precision_score`. The permutation p is
    (1 + exceedances) / (1 + permutations). Baselines are logistic regressions on well position,
    plate, cell count, and count with intensity; with a screen, randomised trees on fingerprints
    (`chemistry`) and six properties (`chemistry_simple`), see
    `moascope.evaluation.chemistry.evaluate_chemistry`.

    Examples
    --------
    >>> evaluation = moascope.evaluate(result)
    >>> evaluation.table
    >>> moascope.evaluate(result, screen).chemistry   # with Metadata_SMILES in the annotations
    """
    settings = parse_params({"evaluate": {
        "bootstraps": bootstraps, "permutations": permutations, "refits": refits}},
        "evaluate").evaluate
    examples, question = result.examples, result.question
    compounds = result.predictions["compound"]
    metrics: dict[str, Any] = {
        "target": question.target, "classes": list(question.classes), "unit": question.unit,
        "not_testable": list(question.untestable), "head": result.head.described(),
        **evaluate_predictions(dict(result.predictions), examples, settings, result.seed),
    }
    if "compound" not in metrics["out_of_fold"]:
        raise MoascopeError(f"target = {question.target} has fewer than two classes that can be "
                            "scored here. Annotate more compounds, or choose another target.")
    metrics["baselines"] = evaluate_baselines(compounds, examples, result.head, result.train,
                                              settings, result.seed)
    metrics["references"] = evaluate_references(compounds, examples, settings, result.seed)
    if screen is not None and question.unit == "compound":
        chemistry = evaluate_chemistry(compounds, examples, screen.annotations, settings,
                                       result.seed)
        metrics["baselines"] = with_chemistry(metrics["baselines"], chemistry)
        for sentence in chemistry.pop("warnings"):
            warnings.warn(sentence, stacklevel=2)
        metrics["chemistry"] = {key: value for key, value in chemistry.items()
                                if key != "baselines"}
    if leak:
        from moascope.evaluation.leak import evaluate_leak

        metrics["random_image_split"] = evaluate_leak(examples, result.head, result.train, settings,
                                                      result.seed)
    metrics["above_chance"] = metrics["out_of_fold"]["compound"]["p"] < 0.05
    metrics["useful"] = metrics["baselines"]["useful"]
    rows = [{"name": row.name, "kind": row.kind,
             **{column: row.scores.get(column) for column in COLUMNS}}
            for row in compared(metrics)]
    if both := metrics["baselines"].get("chemistry", {}).get("both"):
        rows.append({"name": BOTH, "kind": "both", **{column: both.get(column)
                                                      for column in COLUMNS}})
    return Evaluation(pd.DataFrame(rows).set_index("name"), metrics, result,
                      chemistry_sentence(metrics))
