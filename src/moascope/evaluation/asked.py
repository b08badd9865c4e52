"""The compound and dose that a person asks for, found among those of a screen."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.compounds import name_key
from moascope.text import listing, tidy

# Names that an error offers, and how alike they are at least (0 to 1).
MOST_OFFERED, LEAST_ALIKE = 3, 0.6


def asked_compound(name: str, meta: pd.DataFrame) -> str:
    """The name of a compound as the screen spells it.

    Parameters
    ----------
    name : str
        Case, blanks and kinds of dash do not matter.
    meta : DataFrame
        `Metadata_Compound` and `Metadata_Control` of sites or wells.

    Raises
    ------
    MoascopeError
        Where the screen has no such compound, with the nearest names; and for the negative control.
    """
    names = meta["Metadata_Compound"]
    controls = set(names[meta["Metadata_Control"] == "negative"])
    known = sorted(set(names) - {""})
    keys: dict[str, str] = {}
    for one in known:
        keys.setdefault(name_key(one), one)
    found = name if name in known else keys.get(name_key(name))
    if found is None:
        near = difflib.get_close_matches(name_key(name), list(keys), MOST_OFFERED, LEAST_ALIKE)
        offered = [tidy(keys[key]) for key in near if keys[key] not in controls]
        raise MoascopeError(
            f"The screen has no compound {tidy(name, most=100)}. "
            + (f"Do you mean {' or '.join(offered)}?" if offered else
               "Its compounds are in layout.csv (Metadata_Compound), for example "
               f"{listing([tidy(one) for one in known if one not in controls], 3)}."))
    if found in controls:
        raise MoascopeError(f"{tidy(found)} is the negative control that all compounds are "
                            "compared with. Name a compound.")
    return found


def asked_dose(compound: str, dose: float | None, meta: pd.DataFrame) -> float:
    """One of a compound's doses, in micromolar; by default the highest, NaN where none is known.

    Parameters
    ----------
    compound : str
    dose : float or None
    meta : DataFrame
        `Metadata_Compound` and `Metadata_Concentration_uM` of its sites or wells, among others.

    Raises
    ------
    MoascopeError
        Where the compound has no such dose, with those that it has.
    """
    own = meta.loc[meta["Metadata_Compound"] == compound, "Metadata_Concentration_uM"]
    doses = np.unique(own.dropna().to_numpy(float))
    if dose is None:
        return float(doses[-1]) if len(doses) else float("nan")
    # Doses are typed as tables and plots show them, with three digits.
    found = doses[np.isclose(doses, dose, rtol=5e-3)]
    if not len(found):
        has = (f"It has {listing([f'{one:.3g}' for one in doses], 12)}." if len(doses)
               else "No concentration of it is known.")
        raise MoascopeError(f"{tidy(compound)} was not measured at {dose:g} µM. {has}")
    return float(found[np.argmin(np.abs(found - dose))])
