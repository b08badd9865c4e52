"""Mean average precision of profiles that belong together, by copairs, and its permutation null."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Entries of ranked lists that are held at once: bounds memory, whatever the number of profiles.
MOST_ENTRIES = 2**22
# Differences of cosines below this are rounding; chance orders what is equal.
SAME = 1e-6


def cosines(profiles: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Cosine similarity of every pair of profiles, equal ones in random order.

    Parameters
    ----------
    profiles : ndarray, float, [n, d]
        Of length one, or zero: those are similar to nothing.
    generator : Generator

    Returns
    -------
    ndarray, float64, [n, n]
    """
    similarity = np.round((profiles @ profiles.T).astype(float) / SAME)
    # Whatever stands first in a table would otherwise win every tie.
    return similarity + generator.random(similarity.shape) / 2


def average_precisions(similarity: np.ndarray, members: np.ndarray,
                       counted: Sequence[np.ndarray]) -> list[np.ndarray]:
    """How well the members of a set find one another among all other profiles.

    Parameters
    ----------
    similarity : ndarray, float, [n, n]
    members : ndarray, int, [B, r]
        Which profiles are the set, for each of B labellings of the same profiles.
    counted : sequence of ndarray, bool, [r, r]
        Which members (columns) each member (rows) is to find; others are left out of its list, as
        it is itself. One result for each.

    Returns
    -------
    list of ndarray, float64, [B, r]
        NaN for members that have nothing to find.

    Notes
    -----
    Average precision is copairs' [1]_; for a single labelling it is that of
    `copairs.map.average_precision`.

    .. [1] Kalinin et al., "A versatile information retrieval framework for evaluating profile
       strength and similarity", Nature Communications 16, 2025.
    """
    r = members.shape[1]
    order = np.argsort(-similarity, axis=1, kind="stable").astype(np.int32)
    found = [np.empty(members.shape) for _ in counted]
    for rows in _portions(len(members), r * len(similarity)):
        own = members[rows]
        slot = np.full((len(own), len(similarity)), r, np.int16)
        np.put_along_axis(slot, own, np.arange(r, dtype=np.int16)[None], axis=1)
        # The slot of each entry of each member's list; `r` for entries that are not members.
        listed = np.take(slot, order[own] + (np.arange(len(own), dtype=np.int32)
                                             * len(similarity))[:, None, None])
        for number, mask in enumerate(counted):
            known = next((i for i in range(number) if np.array_equal(counted[i], mask)), None)
            found[number][rows] = _precisions(listed, mask) if known is None else found[known][rows]
    return found


def _portions(count: int, entries: int) -> Iterator[slice]:
    step = max(1, MOST_ENTRIES // entries)
    return (slice(start, start + step) for start in range(0, count, step))


def _precisions(listed: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Average precision of ranked lists, [B, r], from the slot of each entry, r for no member."""
    from copairs.compute import ap_contiguous

    r = len(counted)
    some = counted.any(axis=1)
    scores = np.full(listed.shape[:2], np.nan)
    # A member that has nothing to find has no list.
    if not some.any():
        return scores
    listed = listed if some.all() else listed[:, some]
    # What an entry is to the member whose list it is in: 0 left out, 1 another profile, 2 wanted.
    kinds = np.column_stack([2 * counted[some], np.ones(int(some.sum()), int)]).astype(np.int8)
    kind = np.take(kinds, listed + (np.arange(len(kinds), dtype=np.int32) * (r + 1))[None, :, None])
    kept = kind > 0
    precision, _ = ap_contiguous((kind[kept] == 2).astype(np.uint32), kept.sum(axis=2).ravel())
    scores[:, some] = precision.reshape(listed.shape[:2])
    return scores


def labellings(strata: np.ndarray, members: int, count: int,
               generator: np.random.Generator) -> np.ndarray:
    """The observed set and random ones that take as many profiles from each stratum.

    Parameters
    ----------
    strata : ndarray, [n]
        Of each profile; the first `members` profiles are the observed set.
    members, count : int
    generator : Generator

    Returns
    -------
    ndarray, int, [1 + count, members]
        The observed set first. A random member is of the stratum of the one whose column it has.
    """
    drawn = np.empty((1 + count, members), int)
    drawn[0] = np.arange(members)
    for stratum in np.unique(strata[:members]):
        pool = np.flatnonzero(strata == stratum)
        own = np.flatnonzero(strata[:members] == stratum)
        keys = generator.random((count, len(pool)))
        drawn[1:, own] = pool[np.argsort(keys, axis=1)[:, :len(own)]]
    return drawn


def permutation_p(observed: float, null: np.ndarray) -> float:
    """(1 + permutations at least as good) / (1 + permutations)."""
    return float((1 + (null >= observed - SAME).sum()) / (1 + len(null)))


def corrected(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number by Benjamini and Hochberg (1995); NaN stays NaN."""
    from scipy.stats import false_discovery_control

    p = np.asarray(p, float)
    found = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        found[known] = false_discovery_control(p[known])
    return found


def simes(p: np.ndarray) -> float:
    """One p-value of several tests of which any may speak (Simes 1986)."""
    ranked = np.sort(p)
    return float((ranked * len(ranked) / np.arange(1, len(ranked) + 1)).min())
