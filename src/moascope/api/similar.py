"""Which compounds look like a given one."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from moascope.api.features import feature_table
from moascope.evaluation.similar import NORMALISATION, measure_similar


def similar_compounds(features: pd.DataFrame, compound: str, *,
                      activity: pd.DataFrame | None = None,
                      level: Literal["compound", "dose"] = "compound", dose: float | None = None,
                      normalisation: str = NORMALISATION, draws: int = 1000,
                      seed: int = 0) -> pd.DataFrame:
    """Rank all other compounds by how much they look like one, and test each similarity.

    Parameters
    ----------
    features : DataFrame
        As `extract_features`, `read_features` or `add_metadata` give it.
    compound : str
        Case, blanks and kinds of dash do not matter.
    activity : DataFrame, optional
        `reports/activity/compounds.csv` of a project, for the column `active`.
    level : {"compound", "dose"}
        Whether a profile is of all doses of a compound, or of one.
    dose : float, optional
        The compound's dose, in micromolar, at the level `dose`; by default the highest.
    normalisation : {"plate", "plate+sphere", "moderated", "moderated+sphere"}
    draws : int
        Groups of negative controls for each p-value.
    seed : int

    Returns
    -------
    DataFrame
        One row per other compound (or dose), the most similar first: `Metadata_Compound` (at the
        level `dose` also `Metadata_Concentration_uM`), `Metadata_MoA`, `active` ("yes", "no" or
        empty), `similarity` (cosine of consensus profiles), `wells`, `plates` ("other", or "shared"
        where it has wells only on plates of the compound), `p_value` and `corrected_p_value`
        (against negative controls; NaN without them), and `share_of_others` (of the other
        compounds, those that are at least as much like the neighbour).

    Raises
    ------
    MoascopeError
        Where the compound is not in the screen, is the negative control, or has no usable well.

    Warns
    -----
    UserWarning
        What could not be compared or tested.

    Notes
    -----
    See `moascope.evaluation.similar.measure_similar` for the tests and their sources.

    Examples
    --------
    >>> moascope.similar_compounds(features, "SIM-0042").head()
    """
    import warnings

    mechanisms: dict[str, str] = {}
    if "Metadata_MoA" in features:
        mechanisms = dict(zip(features["Metadata_Compound"], features["Metadata_MoA"].fillna(""),
                              strict=True))
    found = measure_similar(feature_table(features), compound, mechanisms, activity, level=level,
                            dose=dose, normalisation=normalisation, draws=draws, seed=seed)
    for sentence in found.warnings:
        warnings.warn(sentence, stacklevel=2)
    return found.table
