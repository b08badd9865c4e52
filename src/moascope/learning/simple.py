"""Simple models in the place of the network: logistic regression, neighbours, trees, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moascope.features.disk import pieces, portions, rows_of
from moascope.learning.head import FittedHeads, predict_logits
from moascope.params import Head

# Strong enough for more features than compounds; not tuned, so that no selection has to be nested.
INVERSE_PENALTY = 0.1
NEIGHBOURS = 5
TREES = 200
# Directions with less than this share of the largest variance are rounding.
SMALLEST = 1e-10
# A similarity of zero or less still counts for something, so that shares are defined.
LEAST = 1e-9
# The logit of a class that training lacked, against the others.
ABSENT = -20.0
# A scale below this share of a feature's size is rounding.
CONSTANT = 1e-6


@dataclass(frozen=True)
class Neighbours:
    """K classifiers by the nearest training rows, by cosine similarity and weighted by it.

    Attributes
    ----------
    mean, scale : ndarray, float32, [K, d]
        Standardisation of the inputs, from the training rows of each.
    rows : ndarray, float32, [m, d]
        All training rows, as given.
    label : ndarray, int32, [K, m]
    used : ndarray, bool, [K, m]
        Which rows each may see.
    classes : ndarray, int32, []
        How many there are.
    """

    mean: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    label: np.ndarray
    used: np.ndarray
    classes: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return len(self.mean)

    def probability(self, features: np.ndarray, index: int = 0) -> np.ndarray:
        """float64, [n, d] -> [n, classes]: what one of the K says of rows."""
        own = self.used[index]
        known = _directions(self.rows[own], self.mean[index], self.scale[index])
        found = np.zeros((len(features), int(self.classes)))
        # Every row with every known one at once would be 14 GB of 30,000 and 60,000 compounds.
        for at in portions(len(features), 8 * len(known)):
            asked = _directions(features[at], self.mean[index], self.scale[index])
            similar = asked @ known.T
            nearest = np.argsort(-similar, axis=1, kind="stable")[:, :NEIGHBOURS]
            weight = np.maximum(np.take_along_axis(similar, nearest, axis=1), 0) + LEAST
            label = self.label[index][own][nearest]
            np.add.at(found, (np.arange(len(features))[at, None], label), weight)
        return found / found.sum(axis=1, keepdims=True)

    def __post_init__(self):
        # Of a model folder, which may have come from elsewhere.
        if not (self.rows.ndim == self.mean.ndim == 2 and self.mean.shape == self.scale.shape
                and self.mean.shape[1] == self.rows.shape[1] and self.used.dtype == bool
                and self.label.shape == self.used.shape == (self.count, len(self.rows))
                and self.used.any(axis=1).all()
                and self.label.min() >= 0 and self.label.max() < self.classes):
            raise ValueError("the arrays of a model of neighbours do not fit each other")

    @property
    def votes(self) -> int:
        """How many rows decide."""
        return NEIGHBOURS


@dataclass(frozen=True)
class Trees:
    """K forests as flat arrays: the nodes of all trees, one after the other.

    Attributes
    ----------
    roots : ndarray, int32, [K, trees]
        The first node of each tree.
    feature : ndarray, int32, [nodes]
        Which feature a node asks for; negative at a leaf.
    threshold : ndarray, float64, [nodes]
        Rows with a feature up to this go left.
    left, right : ndarray, int32, [nodes]
    share : ndarray, float64, [nodes, classes]
        Of the classes among the training rows of a node.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    share: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return len(self.roots)

    def probability(self, features: np.ndarray, index: int = 0) -> np.ndarray:
        """float64, [n, d] -> [n, classes]: what one of the K says of rows."""
        features = np.asarray(features, np.float32)
        row = np.arange(len(features))
        found = np.zeros((len(features), self.share.shape[1]))
        for root in self.roots[index]:
            node = np.full(len(features), root)
            inside = self.feature[node] >= 0
            while inside.any():
                at, of = node[inside], row[inside]
                goes_left = features[of, self.feature[at]] <= self.threshold[at]
                node[inside] = np.where(goes_left, self.left[at], self.right[at])
                inside = self.feature[node] >= 0
            found += self.share[node]
        return found / self.roots.shape[1]

    def __post_init__(self):
        # Of a model folder, which may have come from elsewhere. A node's children come after it:
        # no walk through a tree goes on for ever.
        nodes = np.arange(len(self.feature))
        inside = self.feature >= 0
        if not (self.roots.ndim == self.share.ndim == 2 and self.roots.size
                and self.threshold.shape == self.left.shape == self.right.shape == nodes.shape
                and len(self.share) == len(nodes) and self.roots.max() < len(nodes)
                and self.roots.min() >= 0
                and all(((child > nodes) & (child < len(nodes)))[inside].all()
                        for child in (self.left, self.right))):
            raise ValueError("the arrays of a model of trees do not fit each other")

    @property
    def votes(self) -> int:
        """How many trees decide."""
        return self.roots.shape[1]


Fitted = FittedHeads | Neighbours | Trees
# Of each kind that is kept as arrays of its own; logistic regression is a network without layers.
KEPT_AS: dict[str, type[Neighbours] | type[Trees]] = {"neighbours": Neighbours, "trees": Trees}


def fit_simple(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int,
               head: Head, seed: int = 0) -> Fitted:
    """Fit K simple models, one for each row of weights.

    Parameters
    ----------
    features : ndarray, float32, [n, d]
    labels : ndarray, int, [n] or [K, n]
        Class of each row; per model where labels differ (permuted labels).
    weights : ndarray, float32, [K, n]
        How much a row counts for a model; 0 hides it. Neighbours count alike.
    classes : int
    head : Head
        `head` is read.
    seed : int
        Of the trees.

    Returns
    -------
    FittedHeads, Neighbours or Trees

    Notes
    -----
    Logistic regression with an L2 penalty; the five nearest rows by cosine similarity; extremely
    randomised trees [1]_. Predictions are those of scikit-learn.

    .. [1] Geurts, Ernst, Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006.
    """
    from threadpoolctl import threadpool_limits

    seen = weights.any(axis=0)
    # Neighbours keep all rows, and the other models are meant for one row per compound: these fit
    # into memory.
    features = features[seen].astype(np.float32, copy=False)
    weights = weights[:, seen]
    labels = np.broadcast_to(labels[..., seen], weights.shape)
    # Tables this small lose more time waking threads than they win.
    with threadpool_limits(1, "blas"):
        if head.head == "logistic":
            return _fit_logistic(features, labels, weights, classes, head)
        if head.head == "neighbours":
            mean, scale = _standardisation(features, weights)
            return Neighbours(mean, scale, features, labels.astype(np.int32), weights > 0,
                              np.array(classes, np.int32))
        return _fit_trees(features, labels, weights, classes, seed)


def simple_logits(model: Neighbours | Trees, features: Any,
                  wanted: np.ndarray | None = None) -> np.ndarray:
    """Logits of every model for every row.

    Parameters
    ----------
    model : Neighbours or Trees
    features : ndarray or OnDisk, float32, [n, d]
    wanted : ndarray, bool, [K, n], optional
        Which model predicts which row; every model every row, if None.

    Returns
    -------
    ndarray, float32, [K, n, classes]
        Logarithms of the shares of the votes, with one vote more that is spread over the classes: a
        row without a vote for a class says nothing about how unlikely it is. 0 where a row is not
        wanted of a model.
    """
    found = []
    for index in range(model.count):
        own = np.arange(len(features)) if wanted is None else np.flatnonzero(wanted[index])
        share = np.concatenate([model.probability(given, index)
                                for _, given in pieces(rows_of(features, own))])
        more = (share * model.votes + 1 / share.shape[1]) / (model.votes + 1)
        logits = np.zeros((len(features), share.shape[1]), np.float32)
        logits[own] = np.log(more)
        found.append(logits)
    return np.stack(found)


def simple_probability(model: Fitted, features: np.ndarray) -> np.ndarray:
    """float, [n, d] -> float64, [n, classes]: what the first model says of rows."""
    from scipy.special import softmax

    if isinstance(model, FittedHeads):
        return softmax(predict_logits(model, features)[0].astype(float), axis=1)
    return model.probability(features)


def solve_logistic(rows: np.ndarray, label: np.ndarray,
                   weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logistic regression with an L2 penalty, exact for more features than rows.

    Parameters
    ----------
    rows : ndarray, float64, [n, d]
        Standardised.
    label : ndarray, int, [n]
        Two classes or more.
    weight : ndarray, float, [n]

    Returns
    -------
    kernel : ndarray, float64, [d, present]
    bias : ndarray, float64, [present]
        A column for each class that is present; of two classes, the first is 0.
    present : ndarray, int, [present]
    """
    from sklearn.linear_model import LogisticRegression

    back = None
    if len(rows) < rows.shape[1]:
        # Without loss: an L2 penalty sees the rows' products alone, and rows are few.
        values, axes = np.linalg.eigh(rows @ rows.T)
        kept = values > values.max() * SMALLEST
        back = rows.T @ (axes[:, kept] / np.sqrt(values[kept]))
        rows = axes[:, kept] * np.sqrt(values[kept])
    solver: dict[str, Any] = ({"solver": "newton-cholesky"} if back is not None
                              else {"solver": "lbfgs", "max_iter": 10_000})
    model: Any = LogisticRegression(C=INVERSE_PENALTY, **solver)
    model.fit(rows, label, sample_weight=weight)
    kernel, bias = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:
        kernel = np.hstack([np.zeros_like(kernel), kernel])
        bias = np.array([0.0, bias[0]])
    return kernel if back is None else back @ kernel, bias, model.classes_


def _fit_logistic(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int,
                  head: Head) -> FittedHeads:
    mean, scale = _standardisation(features, weights)
    kernels = np.zeros((len(weights), features.shape[1], classes), np.float32)
    biases = np.full((len(weights), classes), ABSENT, np.float32)
    for index, (label, weight) in enumerate(zip(labels, weights, strict=True)):
        own = weight > 0
        kernel, bias, present = solve_logistic(
            (features[own].astype(float) - mean[index]) / scale[index], label[own], weight[own])
        kernels[index][:, present], biases[index, present] = kernel, bias
    return FittedHeads(head.model_copy(update={"layers": 0}), mean, scale, [kernels], [biases],
                       np.zeros(0, np.int32), np.zeros(0, np.float32))


def _fit_trees(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int,
               seed: int) -> Trees:
    from sklearn.ensemble import ExtraTreesClassifier

    roots, parts, start = [], [], 0
    for label, weight in zip(labels, weights, strict=True):
        own = weight > 0
        forest = ExtraTreesClassifier(TREES, random_state=seed)
        forest.fit(features[own], label[own], sample_weight=weight[own])
        roots.append([])
        for tree in (one.tree_ for one in forest.estimators_):
            inside = tree.children_left >= 0
            share = np.zeros((tree.node_count, classes))
            share[:, forest.classes_] = tree.value[:, 0]
            parts.append((np.where(inside, tree.feature, -1), tree.threshold,
                          tree.children_left + start, tree.children_right + start,
                          share / share.sum(axis=1, keepdims=True)))
            roots[-1].append(start)
            start += tree.node_count
    feature, threshold, left, right, share = (np.concatenate(part)
                                              for part in zip(*parts, strict=True))
    return Trees(np.array(roots, np.int32), feature.astype(np.int32), threshold,
                 left.astype(np.int32), right.astype(np.int32), share)


def _standardisation(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, float32 [K, d], of the rows that each model sees."""
    mean, scale = [], []
    for weight in weights:
        own = features[weight > 0].astype(float)
        mean.append(own.mean(axis=0))
        scale.append(own.std(axis=0))
    center, spread = np.stack(mean), np.stack(scale)
    # A feature without spread in training carries nothing; a scale of one keeps it harmless.
    spread = np.where(spread > CONSTANT * (1 + np.abs(center)), spread, 1)
    return center.astype(np.float32), spread.astype(np.float32)


def _directions(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardised rows of length one."""
    rows = (features.astype(float) - mean) / scale
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST)
