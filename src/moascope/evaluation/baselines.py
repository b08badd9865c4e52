"""Baselines that see no biology, on the same folds as the model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moascope.learning.examples import COUNT, INTENSITY, Examples, averaging, row_weights
from moascope.learning.nested import masks_without
from moascope.screen.wells import well_position


def baseline_inputs(examples: Examples) -> dict[str, np.ndarray]:
    """What each baseline is shown of the wells.

    Parameters
    ----------
    examples : Examples
        One row a well, as `Examples.wells` gives them; features as measured.

    Returns
    -------
    dict
        Name -> ndarray, float, [n, d]. `position_only`: row and column of the well.
        `plate_only`: which plate. `cell_count`: the count of nuclei. `count_and_intensity`: that
        and the intensities of all channels.
    """
    rows, columns = zip(*(well_position(well) for well in examples.meta["Metadata_Well"]),
                        strict=True)
    normal = examples.normalised("plate")
    counts = [i for i, name in enumerate(examples.names) if name.startswith(COUNT)]
    both = [i for i, name in enumerate(examples.names) if name.startswith((COUNT, INTENSITY))]
    found = {
        "position_only": np.hstack([_one_hot(rows), _one_hot(columns)]),
        "plate_only": _one_hot(examples.meta["Metadata_Plate"]),
        "cell_count": normal.features[:, counts],
        "count_and_intensity": normal.features[:, both],
    }
    return {name: values for name, values in found.items() if values.shape[1]}


def baseline_logits(examples: Examples, inputs: np.ndarray) -> np.ndarray:
    """Out-of-fold log-odds of a logistic regression, averaged over the repeats.

    Parameters
    ----------
    examples : Examples
        One row a well.
    inputs : ndarray, float, [n, d]

    Returns
    -------
    logits : ndarray, float, [n, C]
        Zero for rows in no fold.
    """
    logits = np.zeros((len(inputs), len(examples.classes)))
    for repeat in range(examples.repeats):
        folds = examples.folds(repeat)
        for fold in range(folds.max() + 1):
            training = masks_without(examples, [(repeat, fold)])[0]
            asked = (examples.group >= 0) & (folds[examples.group] == fold)
            logits[asked] += _asked(examples, inputs, training, asked) / examples.repeats
    return logits


def held_out_baseline_logits(examples: Examples, inputs: np.ndarray) -> np.ndarray:
    """Log-odds of a logistic regression that learnt from all folds, for the held-out units.

    Parameters
    ----------
    examples : Examples
        One row a well.
    inputs : ndarray, float, [n, d]

    Returns
    -------
    logits : ndarray, float, [n, C]
        Zero for rows that are not held out.
    """
    labelled = examples.group >= 0
    held_out = labelled & examples.groups["Holdout"].to_numpy(bool)[examples.group]
    logits = np.zeros((len(inputs), len(examples.classes)))
    logits[held_out] = _asked(examples, inputs, labelled & ~held_out, held_out)
    return logits


def _asked(examples: Examples, inputs: np.ndarray, training: np.ndarray,
           asked: np.ndarray) -> np.ndarray:
    """Log-odds, [asked rows, C], of a logistic regression of the training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    label = examples.label
    weights = row_weights(examples, training, label)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    model.fit(inputs[training], label[training],
              logisticregression__sample_weight=weights[training])
    decision = model.decision_function(inputs[asked])
    if decision.ndim == 1:
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    # A class that the training rows lack is the least likely one.
    full = np.full((int(asked.sum()), len(examples.classes)), decision.min() - 10)
    full[:, model.classes_] = decision
    return full


def unit_scores(examples: Examples, logits: np.ndarray, units: pd.DataFrame) -> np.ndarray:
    """Logits of the screen's units, in the order of `units`.

    Parameters
    ----------
    examples : Examples
        The rows of `logits`.
    logits : ndarray, float, [n, C]
    units : DataFrame
        With `Metadata_Group`.

    Returns
    -------
    ndarray, float, [units, C]
    """
    matrix, own = averaging(examples, "compound")
    names = examples.groups["Metadata_Group"].to_numpy()[own["Group"]]
    order = pd.Series(np.arange(len(names)), index=names)[units["Metadata_Group"]].to_numpy()
    return (matrix @ logits)[order]


def _one_hot(values) -> np.ndarray:
    return pd.get_dummies(pd.Series(list(values), dtype="category")).to_numpy(float)
