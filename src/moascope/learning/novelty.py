"""How far a compound is from those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Compounds that are compared at once.
BLOCK = 512


@dataclass(frozen=True)
class KnownCompounds:
    """The consensus profiles that a model was trained on.

    Attributes
    ----------
    profiles : ndarray, float32, [G, d]
        Of length one; all zeros where a compound does not differ from the controls at all.
    distances : ndarray, float32, [G]
        From each compound to the nearest of the others.
    """

    profiles: np.ndarray
    distances: np.ndarray

    def nearest(self, profiles: np.ndarray,
                itself: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest known compound of each profile.

        Parameters
        ----------
        profiles : ndarray, float, [n, d]
        itself : ndarray, int, [n], optional
            The row of the same compound, which does not count; -1 where there is none.

        Returns
        -------
        index : ndarray, int, [n]
        distance : ndarray, float32, [n]
            1 - cosine similarity, between 0 and 2.
        """
        none = np.full(len(profiles), -1)
        return _nearest(of_length_one(profiles), self.profiles, none if itself is None else itself)

    def several(self, profiles: np.ndarray, itself: np.ndarray,
                most: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest known compounds of each profile, the nearest first.

        Parameters
        ----------
        profiles : ndarray, float, [n, d]
        itself : ndarray, int, [n]
            As in `nearest`.
        most : int

        Returns
        -------
        index : ndarray, int, [n, k]
        similarity : ndarray, float32, [n, k]
            Cosine; minus infinity for the compound itself, which is last.
        """
        scaled = of_length_one(profiles)
        most = min(most, len(self.profiles))
        index = np.zeros((len(scaled), most), int)
        similarity = np.zeros((len(scaled), most), np.float32)
        for start in range(0, len(scaled), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(scaled)))
            like = scaled[rows] @ self.profiles.T
            own = np.flatnonzero(itself[rows] >= 0)
            like[own, itself[rows[own]]] = -np.inf
            index[rows] = np.argsort(-like, axis=1, kind="stable")[:, :most]
            similarity[rows] = np.take_along_axis(like, index[rows], axis=1)
        return index, similarity

    def p_values(self, distance: np.ndarray) -> np.ndarray:
        """How unusual it would be for a training compound to lie this far from the others.

        Parameters
        ----------
        distance : ndarray, float, [n]
            To the nearest known compound.

        Returns
        -------
        ndarray, float, [n]
            (1 + training compounds at least as far from the others) / (1 + training compounds): for
            compounds like those of training, at most a share `rate` of them is below `rate`.
        """
        farther = len(self.distances) - np.searchsorted(np.sort(self.distances), distance)
        return (1 + farther) / (1 + len(self.distances))


def known_compounds(profiles: np.ndarray) -> KnownCompounds:
    """Calibrate the distance of unseen compounds by leaving out one known compound at a time.

    Parameters
    ----------
    profiles : ndarray, float, [G, d]
        One consensus profile per compound, normalised by the controls.

    Notes
    -----
    A conformal test for an outlier with the distance to the nearest neighbour as its score:
    Laxhammar and Falkman, "Conformal prediction for distribution-independent anomaly detection in
    streaming vessel data", 2010; Bates et al., "Testing for outliers with conformal p-values", Ann
    Stat 51, 2023.
    """
    scaled = of_length_one(profiles)
    return KnownCompounds(scaled, _nearest(scaled, scaled, np.arange(len(scaled)))[1])


def of_length_one(profiles: np.ndarray) -> np.ndarray:
    """float, [n, d] -> float32, [n, d]; a profile of zeros stays one."""
    profiles = np.asarray(profiles, np.float32)
    length = np.linalg.norm(profiles, axis=1, keepdims=True)
    return profiles / np.where(length > 0, length, 1)


def _nearest(profiles: np.ndarray, known: np.ndarray,
             itself: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    index = np.zeros(len(profiles), int)
    distance = np.full(len(profiles), 2, np.float32)
    if not len(known):
        return index, distance
    for start in range(0, len(profiles), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(profiles)))
        apart = 1 - profiles[rows] @ known.T
        own = np.flatnonzero(itself[rows] >= 0)
        apart[own, itself[rows[own]]] = np.inf
        index[rows] = apart.argmin(axis=1)
        distance[rows] = np.clip(apart[np.arange(len(rows)), index[rows]], 0, 2)
    return index, distance
