"""Points in clusters: how they are found, how well separated they are, and whether two clusterings say the same."""

from __future__ import annotations

import numpy as np

from policylens.statistics import checks

ITERATIONS = 100


def k_means(points: np.ndarray, k: int, seed: int, restarts: int = 5) -> np.ndarray:
    """Cluster of each point, (n,) int64 from 0, numbered by size (the largest first; ties by the smallest point).

    points: (n, d). Lloyd's iterations from k-means++ starts (Arthur and Vassilvitskii, SODA 2007), of `restarts` the
    one with the least sum of squared distances. k: at most the number of points. A cluster that loses all its points
    takes the point that lies furthest from its centre.
    """
    checks.count(len(points), "points to cluster", k)
    rng = np.random.default_rng(seed)
    found = [_lloyd(points, _spread_out(points, k, rng)) for _ in range(restarts)]
    _, best = min(found, key=lambda entry: entry[0])
    return _by_size(best, k)


def _spread_out(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k starting centres: each drawn with the squared distance to the nearest one drawn before as its weight."""
    centres = points[[rng.integers(len(points))]]
    for _ in range(1, k):
        weights = _squared_distances(points, centres).min(1)
        total = weights.sum()
        drawn = rng.choice(len(points), p=weights / total) if total > 0 else rng.integers(len(points))
        centres = np.concatenate([centres, points[[drawn]]])
    return centres


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[float, np.ndarray]:
    """(sum of squared distances, cluster of each point)."""
    labels = np.full(len(points), -1)
    for _ in range(ITERATIONS):
        distances = _squared_distances(points, centres)
        nearest = distances.argmin(1)
        own = distances[np.arange(len(points)), nearest]
        for empty in np.setdiff1d(np.arange(len(centres)), nearest):
            furthest = int(own.argmax())
            nearest[furthest], own[furthest] = empty, 0.0
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        members = labels == np.arange(len(centres))[:, None]
        centres = (members @ points) / np.maximum(members.sum(1, keepdims=True), 1)
    return float(own.sum()), labels


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n, k), never below 0."""
    products = points @ centres.T
    return np.maximum((points**2).sum(1)[:, None] - 2 * products + (centres**2).sum(1), 0)


def _by_size(labels: np.ndarray, k: int) -> np.ndarray:
    sizes = np.bincount(labels, minlength=k)
    first = np.array([np.flatnonzero(labels == c)[0] if sizes[c] else len(labels) for c in range(k)])
    rank = np.empty(k, np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(k)
    return rank[labels]


def silhouettes(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much closer each point is to its own cluster than to the next, (n,) from -1 to 1; 0 for one alone.

    (b - a) / max(a, b) with a the mean squared distance to the others of its cluster and b that to the nearest other
    cluster (Rousseeuw, J. Comput. Appl. Math. 20 (1987), with squared distances: of unit vectors, twice 1 - cosine).
    """
    count = int(labels.max()) + 1
    if count < 2:
        return np.zeros(len(points))
    members = (labels[:, None] == np.arange(count)).astype(np.float64)
    sizes = members.sum(0)
    centres, squares = members.T @ points, members.T @ (points**2).sum(1)
    sums = sizes * (points**2).sum(1)[:, None] - 2 * points @ centres.T + squares  # to all points of each cluster
    own = np.arange(len(points)), labels
    alone = sizes[labels] == 1
    a = np.maximum(sums[own], 0) / np.maximum(sizes[labels] - 1, 1)
    others = np.maximum(sums, 0) / np.maximum(sizes, 1)
    others[own] = np.inf
    others[:, sizes == 0] = np.inf
    b = others.min(1)
    largest = np.maximum(a, b)
    return np.where(alone | (largest <= 0), 0.0, (b - a) / np.where(largest > 0, largest, 1.0))


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    """Adjusted Rand index of two clusterings of the same points: 1 the same, 0 on average by chance.

    Hubert and Arabie, "Comparing partitions", Journal of Classification 2 (1985). 1 where both put every point alone,
    or all in one.
    """
    checks.same_length(first, second, "clusterings")
    one, other = (np.unique(labels, return_inverse=True)[1] for labels in (first, second))
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    both, rows, columns = (_pairs(counts).sum() for counts in (table, table.sum(1), table.sum(0)))
    chance = rows * columns / max(_pairs(np.array(float(len(first)))), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == chance else float((both - chance) / (most - chance))


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2
