"""moascope tells from pictures of cells alone how a drug acts.

What a notebook needs, in the order of use:

```python
import moascope

screen = moascope.read_screen("data/acquire")
features = moascope.extract_features(screen, "morphology")
folds = moascope.make_folds(screen, features, "Tubulin inhibitor")
result = moascope.cross_validate(features, folds, dropout=0.3)
evaluation = moascope.evaluate(result)
evaluation.table  # scores next to their nulls
moascope.explain(result)  # what is lost without each channel
moascope.plot_precision_recall(evaluation)
moascope.similar_compounds(features, "SIM-0042")
moascope.plot_doses(moascope.dose_responses(features), "SIM-0042")

model = moascope.load_model("models:/moascope@candidate")
model.predict(screen, level="well")
```

`import_plates` and `simulate_screen` make a screen where there is none; `read_features` and
`read_folds` read what a project's pipeline computed.

Importing moascope loads none of this; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In the order of use, which is that of the documentation.
__all__ = [  # noqa: RUF022
    "read_screen", "import_plates", "simulate_screen", "extract_features", "read_features",
    "add_metadata", "make_folds", "read_folds", "cross_validate", "evaluate",
    "explain", "plot_precision_recall", "plot_comparison", "plot_reliability", "plot_plate",
    "similar_compounds", "dose_responses", "plot_doses", "load_model",
    "Screen", "Imported", "Folds", "CrossValidation", "Evaluation", "DoseResponses", "Predictor",
    "MoascopeError", "LeakError", "__version__",
]

if TYPE_CHECKING:
    from moascope.api.doses import dose_responses, plot_doses
    from moascope.api.evaluation import Evaluation, evaluate
    from moascope.api.explanation import explain
    from moascope.api.features import add_metadata, extract_features, read_features
    from moascope.api.learning import CrossValidation, cross_validate, make_folds
    from moascope.api.models import load_model
    from moascope.api.plots import (
        plot_comparison,
        plot_plate,
        plot_precision_recall,
        plot_reliability,
    )
    from moascope.api.screens import simulate_screen
    from moascope.api.similar import similar_compounds
    from moascope.errors import MoascopeError
    from moascope.evaluation.doses import DoseResponses
    from moascope.importing.plates import Imported, import_plates
    from moascope.learning.folds import Folds, read_folds
    from moascope.learning.leaks import LeakError
    from moascope.learning.predictor import Predictor
    from moascope.screen.tables import Screen, read_screen

_HOMES = {
    "api.doses": ("dose_responses", "plot_doses"),
    "api.evaluation": ("Evaluation", "evaluate"),
    "api.explanation": ("explain",),
    "api.features": ("add_metadata", "extract_features", "read_features"),
    "api.learning": ("CrossValidation", "cross_validate", "make_folds"),
    "api.models": ("load_model",),
    "api.plots": ("plot_comparison", "plot_plate", "plot_precision_recall", "plot_reliability"),
    "api.screens": ("simulate_screen",),
    "api.similar": ("similar_compounds",),
    "errors": ("MoascopeError",),
    "evaluation.doses": ("DoseResponses",),
    "importing.plates": ("Imported", "import_plates"),
    "learning.folds": ("Folds", "read_folds"),
    "learning.leaks": ("LeakError",),
    "learning.predictor": ("Predictor",),
    "screen.tables": ("Screen", "read_screen"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
