"""What each group of features does for one prediction, and the table that stages write of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SHARES = "shares.csv"
SHARE_COLUMNS = ["Metadata_Compound", "Class", "Kind", "Group", "Log_Odds", "Without"]


@dataclass(frozen=True)
class Share:
    """What one group of features does for the probability of one class.

    Attributes
    ----------
    kind : str
        One of `groups.KINDS`.
    group : str
    log_odds : float
        What the calibrated logit of the class, against the mean of the others, loses without the
        group: positive where the group speaks for the class.
    without : float
        The probability with the group's features at the controls' value; NaN where only logits
        are known.
    """

    kind: str
    group: str
    log_odds: float
    without: float


def largest_first(shares: Sequence[Share], kinds: Sequence[str]) -> tuple[Share, ...]:
    """Shares kind by kind, the largest of each first."""
    return tuple(sorted(shares, key=lambda one: (kinds.index(one.kind), -abs(one.log_odds),
                                                 one.group)))


def margins(logits: np.ndarray, meant: int) -> np.ndarray:
    """The logit of a class against the mean of the others.

    Parameters
    ----------
    logits : ndarray, float, [..., C]
    meant : int

    Returns
    -------
    ndarray, float, [...]
        Of two classes, the log-odds.
    """
    return logits[..., meant] - np.delete(logits, meant, axis=-1).mean(axis=-1)


def share_table(shares: Mapping[str, Sequence[Share]], meant: Mapping[str, str]) -> pd.DataFrame:
    """Shares as the table that stages write into `SHARES`, one row for each.

    Parameters
    ----------
    shares : mapping
        Compound -> shares.
    meant : mapping
        Compound -> the class that is explained.

    Returns
    -------
    DataFrame
        `SHARE_COLUMNS`.
    """
    return pd.DataFrame([(name, meant[name], *astuple(one)) for name, own in shares.items()
                         for one in own], columns=SHARE_COLUMNS)


def read_shares(path: Path) -> pd.DataFrame:
    """A table of `share_table`; empty where the file does not exist."""
    if not path.is_file():
        return share_table({}, {})
    return pd.read_csv(path, dtype=dict.fromkeys(SHARE_COLUMNS[:4], str), keep_default_na=False,
                       na_values={"Without": [""]})
