"""The model as MLflow loads and serves it ("models from code": no pickle).

MLflow runs this file when it logs and when it loads the model.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import DataType, Schema

# Requests name files on the server's disk: they may not leave this folder, and without it the
# server reads none.
SCREENS = "MOASCOPE_SCREENS"
LONGEST_NAME = 255


class MoascopeModel(PythonModel):
    """Takes the sites of a screen and returns predictions at the requested level."""

    takes_profiles = False

    def load_context(self, context: Any) -> None:
        """Read the model folder among the artifacts."""
        from moascope.features.embed import open_backbones
        from moascope.learning.model import read_model

        self.predictor = model = read_model(Path(context.artifacts["model"]))
        open_backbones(model.embed, model.prepare.crop, model.weights)
        self.takes_profiles = "profiles" in self.predictor.embed.backbones

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Prepare, embed and predict.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
        model_input : DataFrame
            One row per site: the columns of load_data.csv (or of profiles, one row per site or
            well), and from layout.csv and annotations.csv
            `Metadata_Compound`, `Metadata_Concentration_uM`, `Metadata_Control`,
            `Metadata_InChIKey` where they are known.
        params : dict
            `screen`: the folder that file names start from. `level`: site, well or compound.

        Returns
        -------
        DataFrame
            The predictions table; where sites were left out, with a column `Warnings` that says
            why.

        Raises
        ------
        MlflowException
            With a sentence that names no folder of the server.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

        from moascope.errors import MoascopeError

        hidden: list[str] = []
        try:
            return self._predict(model_input, {"screen": "", "level": "compound"} | (params or {}),
                                 hidden)
        except MoascopeError as error:
            raise MlflowException("\n".join(_without(text, hidden) for text in error.problems),
                                  INVALID_PARAMETER_VALUE) from None
        except UnicodeEncodeError:
            raise MlflowException("The request holds half of a surrogate pair (\\ud800 to "
                                  "\\udfff), which is not text.", INVALID_PARAMETER_VALUE) from None
        except Exception:
            # MLflow would send the traceback, with the server's paths, to the client.
            logging.getLogger("moascope").exception("A prediction failed.")
            raise MlflowException("The prediction failed. The server's log says why.",
                                  INTERNAL_ERROR) from None

    def _predict(self, rows: pd.DataFrame, params: dict[str, Any],
                 hidden: list[str]) -> pd.DataFrame:
        """Predict; `hidden` gets the server's folders, which no answer may name."""
        from moascope.learning.predictor import predict_screen
        from moascope.screen.rows import screen_from_rows

        with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
            hidden.append(folder)
            # Profiles come with the request, and no file of the server is read.
            alone = self.takes_profiles and not any(
                str(name).startswith("FileName_") for name in rows.columns)
            root = Path(folder) if alone else _allowed(params["screen"], hidden)
            screen = screen_from_rows(rows, root, Path(folder), self.takes_profiles)
            predictions, warnings = predict_screen(self.predictor, screen, params["level"])
        if warnings:
            # The same for every row: an answer is one table, and has no other place for it.
            predictions["Warnings"] = "\n".join(_without(text, hidden) for text in warnings)
        # JSON has no NaN, and readers of the answer refuse it.
        for column in predictions.columns:
            values = predictions[column]
            if values.isna().any():
                predictions[column] = values.astype(object).where(values.notna(), None)
        return predictions


def _allowed(folder: str, hidden: list[str]) -> Path:
    from moascope.errors import MoascopeError

    allowed = os.environ.get(SCREENS)
    if not allowed:
        raise MoascopeError(f"This server may read no screen. Set {SCREENS} to the folder that "
                            "holds the screens, and start it again.")
    home = Path(allowed).resolve()
    hidden.append(str(home))
    if "\0" in folder or any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.split("/")):
        raise MoascopeError("The parameter 'screen' is not the name of a folder.")
    root = (home / folder).resolve()
    if not root.is_relative_to(home):
        raise MoascopeError(f"The screen '{folder}' lies outside {SCREENS}, the folder that this "
                            "server may read.")
    if not root.is_dir():
        raise MoascopeError(f"There is no screen '{folder}' on this server.")
    return root


def _without(sentence: str, hidden: list[str]) -> str:
    for folder in hidden:
        sentence = sentence.replace(f"{folder}/", "").replace(folder, "the server's folder")
    return sentence


def _accept_csv() -> None:
    """Let MLflow's server read CSV: it refuses it where a column may hold anything.

    Here it is the concentration, which is a number, or empty for a control.
    """
    def pandas_types(self: Schema) -> list[Any]:
        return [column.type.to_pandas() if isinstance(column.type, DataType) else object
                for column in self.inputs]

    Schema.pandas_types = pandas_types


_accept_csv()
set_model(MoascopeModel())
