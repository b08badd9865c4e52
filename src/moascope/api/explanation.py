"""What cross-validated heads look at."""

from __future__ import annotations

import pandas as pd

from moascope.api.learning import CrossValidation
from moascope.errors import MoascopeError
from moascope.explanation.out_of_fold import evaluate_groups
from moascope.params_file import parse_params

COLUMNS = ("features", "average_precision", "lost", "low", "high")


def explain(result: CrossValidation, *, bootstraps: int = 1000) -> pd.DataFrame:
    """What is lost on unseen compounds without each channel, or each kind of measurement.

    Parameters
    ----------
    result : CrossValidation
        Its head is trained once more on the folds of the first repeat.
    bootstraps : int
        Resamples of compounds for each interval.

    Returns
    -------
    DataFrame
        Indexed by `kind` ("channel"; of named features also "compartment" and "measurement", or
        "feature") and `group`: `features` (how many), `average_precision` with these at the value
        of the plate's negative controls, and how much is `lost`, with `low` and `high` (95 %
        bootstrap interval over compounds, paired; none below five hits). In `attrs`,
        `average_precision` with all features.

    Raises
    ------
    MoascopeError
        Where the names of the features do not tell them apart, or nothing can be scored.

    Notes
    -----
    This is what the heads use, not what could be known without a group: they are not trained
    again, and what two groups both show is lost with neither alone.

    Examples
    --------
    >>> moascope.explain(result).loc["channel"]
    """
    settings = parse_params({"evaluate": {"bootstraps": bootstraps}}, "explain").evaluate
    found = evaluate_groups(result.examples, result.head, result.train, settings, result.seed)
    if found is None:
        raise MoascopeError(
            "There is nothing to compare: the features are of one channel and one kind, or fewer "
            "than two classes can be scored. Use features of several channels, or named "
            "measurements (morphology, or profiles of CellProfiler).")
    rows = [{"kind": kind, "group": name, **{column: group[column] for column in COLUMNS}}
            for kind, groups in found["groups"].items() for name, group in groups.items()]
    table = pd.DataFrame(rows).set_index(["kind", "group"])
    table.attrs["average_precision"] = found["average_precision"]
    return table
