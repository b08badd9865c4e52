"""The model as MLflow loads and serves it ("models from code": no pickle).

MLflow runs this file when it logs and when it loads the model.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

# Requests name files on the server's disk; where this is set, they may not leave that folder.
SCREENS = "MOASCOPE_SCREENS"


class MoascopeModel(PythonModel):
    """Takes the sites of a screen and returns predictions at the requested level."""

    def load_context(self, context: Any) -> None:
        """Read the model folder among the artifacts."""
        from moascope.learning.predictor import load_predictor

        self.predictor = load_predictor(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Prepare, embed and predict.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
        model_input : DataFrame
            One row per site: the columns of load_data.csv, and from layout.csv and annotations.csv
            `Metadata_Compound`, `Metadata_Concentration_uM`, `Metadata_Control`,
            `Metadata_InChIKey` where they are known.
        params : dict
            `screen`: the folder that file names start from. `level`: site, well or compound.

        Returns
        -------
        DataFrame
            The predictions table.
        """
        from moascope.learning.predictor import predict_screen
        from moascope.screen.rows import screen_from_rows

        params = {"screen": "", "level": "compound"} | (params or {})
        root = _allowed(params["screen"])
        with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
            screen = screen_from_rows(model_input, root, Path(folder))
            predictions, _ = predict_screen(self.predictor, screen, params["level"])
        return predictions


def _allowed(folder: str) -> Path:
    from moascope.errors import MoascopeError

    allowed = os.environ.get(SCREENS)
    root = Path(allowed or ".").joinpath(folder).resolve()
    if allowed and not root.is_relative_to(Path(allowed).resolve()):
        raise MoascopeError(f"The screen '{folder}' lies outside {SCREENS}, the folder that this "
                            "server may read.")
    return root


set_model(MoascopeModel())
