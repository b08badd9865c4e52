"""What limits every score of a screen, whatever the scores are."""

from __future__ import annotations

from typing import Any

NON_COMMERCIAL_CAVEAT = (
    "The licence of these data forbids commercial use, and so that of a model trained on them: {}."
)
SIMULATED_CAVEAT = (
    "These scores come from a simulated screen. They prove the software, never the biology."
)
ACTIVITY_CAVEAT = (
    "The screen has a single compound: its wells are compared with control wells. This measures "
    "activity; it says nothing about unseen compounds or mechanisms."
)
SINGLE_BATCH_CAVEAT = (
    "All wells that the model learns from are of a single batch: the scores say nothing about "
    "another batch."
)


def caveats_of(description: dict[str, Any], source: str, unit: str,
               batches: int | None = None) -> list[str]:
    """What limits every score of a screen, whatever the scores are.

    Parameters
    ----------
    description : dict
        The screen's source.json.
    source : str
    unit : {"compound", "well"}
    batches : int, optional
        How many the wells in the folds are of.
    """
    return [str(text) for text, holds in (
        (SIMULATED_CAVEAT, source == "simulated"),
        (ACTIVITY_CAVEAT, unit == "well"),
        (SINGLE_BATCH_CAVEAT, batches == 1),
        (description.get("caveat"), "caveat" in description),
        (NON_COMMERCIAL_CAVEAT.format(description.get("licence")),
         description.get("non_commercial")),
    ) if holds]
