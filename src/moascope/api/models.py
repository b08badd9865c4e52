"""Trained models by their address."""

from __future__ import annotations

import os
from pathlib import Path

from moascope.learning.model import read_model
from moascope.learning.predictor import Predictor


def load_model(model: str | Path) -> Predictor:
    """Load a model from the MLflow registry, a run, or a folder.

    Parameters
    ----------
    model : str or Path
        `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<id>/model`, or a folder such
        as `data/train/model`.

    Returns
    -------
    Predictor
        `model.predict(screen, level="well")` gives its predictions.

    Raises
    ------
    MoascopeError
        Where there is no such model, or it cannot be read.

    Examples
    --------
    >>> model = moascope.load_model("models:/moascope@candidate")
    >>> model.predict(moascope.read_screen("screens/run8"), level="well")
    """
    address = os.fspath(model)
    if ":/" not in address:
        return Predictor(read_model(Path(address)))
    from moascope.tracking.registry import fetch_model

    return Predictor(read_model(fetch_model(address)))
