"""Units in clusters by what they write: which clusters there are, and whether the vectors are clustered at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.statistics.clouds import single_cloud, with_norms
from policylens.statistics.nulls import p_values
from policylens.statistics.partitions import adjusted_rand, k_means, silhouettes

RESTARTS = 10
CLOUDS = 99
HALVINGS = 10
SEEDS = 10
GOOD = 0.65
"""An adjusted Rand index below this is poor recovery: Steinley, Psychological Methods 9 (2004), table 5."""
HALF_RESTARTS = 3
"""Of halves, which are compared with each other alone: many are made."""
NULLS = ("cloud", "isotropic")


@dataclass(frozen=True)
class Clustered:
    """points: (n, r) what was clustered, turned onto its own axes. labels: (n,) cluster of each, the largest first.

    count, seed, restarts: what they were found with; nulls are clustered the same way.
    """

    points: np.ndarray
    labels: np.ndarray
    count: int
    seed: int
    restarts: int

    @property
    def centres(self) -> np.ndarray:
        """(count, r)."""
        return centres_of(self.points, self.labels, self.count)


def points_of(vectors: np.ndarray, normalise: bool) -> np.ndarray:
    """What is clustered: vectors (n, d) in float64, of length 1 if normalised, on their own main axes (n, r).

    With r = min(n, d) axes distances are those of the vectors, and cost less. Raises UserError for a vector of length 0
    that is to be normalised.
    """
    points = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(points, axis=1)
    if normalise and not lengths.all():
        raise UserError(f"vector {int(np.flatnonzero(lengths == 0)[0])} has length 0; set normalise: false")
    if normalise:
        points = points / lengths[:, None]
    if len(points) >= points.shape[1]:
        return points
    left, values, _ = np.linalg.svd(points, full_matrices=False)
    return left * values


def cluster(points: np.ndarray, count: int, seed: int, restarts: int = RESTARTS) -> Clustered:
    """Points (n, d) in `count` clusters. UserError if there are not at least twice as many points."""
    if len(points) < 2 * count:
        raise UserError(
            f"{len(points)} units cannot be put into {count} clusters; ask for fewer, or keep more units by "
            "top_k_per_layer"
        )
    return Clustered(points, k_means(points, count, seed, restarts), count, seed, restarts)


def centres_of(points: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """(count, d): mean of the points of each cluster."""
    members = labels == np.arange(count)[:, None]
    return (members @ points) / np.maximum(members.sum(1, keepdims=True), 1)


def explained(points: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Share of the points' squared distance from their mean that lies between clusters."""
    left = ((points - centres_of(points, labels, count)[labels]) ** 2).sum()
    total = ((points - points.mean(0)) ** 2).sum()
    return float(1 - left / total) if total > 0 else 0.0


def separation(found: Clustered, clouds: int = CLOUDS) -> dict[str, Any]:
    """How well separated the clusters are, beside those of points without any, clustered the same way.

    cloud: one normal cloud with the points' mean, covariance and lengths. isotropic: random directions of the points'
    lengths. p: of a mean silhouette, or a share explained, at least as large. separated: both p of the cloud are at
    most .05; the isotropic null is easy to beat, since vectors that a network has learnt do not fill all directions
    alike.
    """
    own = _statistics(found.points, found.labels, found.count)
    nulls: dict[str, dict[str, Any]] = {}
    for kind in NULLS:
        drawn = [
            _of_null(found, kind, np.random.default_rng([found.seed, NULLS.index(kind), n])) for n in range(clouds)
        ]
        nulls[kind] = {
            name: {
                "median": float(np.median(values := [one[name] for one in drawn])),
                "high": float(np.quantile(values, 0.95)),
                "p": float(p_values(own[name], np.array(values), "greater")),
            }
            for name in own
        }
    separated = all(nulls["cloud"][name]["p"] <= 0.05 for name in own)
    return {**own, "clouds": clouds, "nulls": nulls, "separated": separated}


def _statistics(points: np.ndarray, labels: np.ndarray, count: int) -> dict[str, float]:
    return {"silhouette": float(silhouettes(points, labels).mean()), "explained": explained(points, labels, count)}


def null_points(points: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Points (n, d) of one of NULLS, each as long as the one in its place."""
    drawn = single_cloud(points, rng) if kind == "cloud" else rng.standard_normal(points.shape)
    return with_norms(drawn, np.linalg.norm(points, axis=1))


def _of_null(found: Clustered, kind: str, rng: np.random.Generator) -> dict[str, float]:
    points = null_points(found.points, kind, rng)
    return _statistics(points, k_means(points, found.count, found.seed, found.restarts), found.count)


def stability(found: Clustered, clouds: int = CLOUDS) -> dict[str, Any]:
    """Whether other seeds and other units give the same clusters: adjusted Rand indices.

    halves: centres are found on two random halves of the units, and all units put to the nearest of each (prediction
    strength: Tibshirani and Walther, J. Comput. Graph. Stat. 14 (2005), with Rand's index). cloud: the same of single
    clouds. stable: the halves' mean is at least GOOD and larger than 95% of clouds'.
    """
    others = [k_means(found.points, found.count, found.seed + number) for number in range(1, SEEDS)]
    seeds = [adjusted_rand(a, b) for a, b in combinations([found.labels, *others], 2)]
    halves = [_halved(found.points, found, number) for number in range(HALVINGS)]
    null = [
        _halved(null_points(found.points, "cloud", np.random.default_rng([found.seed, 7, number])), found, number)
        for number in range(clouds)
    ]
    high = float(np.quantile(null, 0.95))
    return {
        "seeds": _spread(seeds),
        "halves": _spread(halves),
        "cloud": {"mean": float(np.mean(null)), "high": high},
        "stable": bool(np.mean(halves) >= GOOD and np.mean(halves) > high),
    }


def _halved(points: np.ndarray, found: Clustered, number: int) -> float:
    order = np.random.default_rng([found.seed, 3, number]).permutation(len(points))
    sides = []
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        labels = k_means(points[half], found.count, found.seed, HALF_RESTARTS)
        centres = centres_of(points[half], labels, found.count)
        sides.append(((centres**2).sum(1) - 2 * points @ centres.T).argmin(1))
    return adjusted_rand(*sides)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "lowest": float(min(values)), "highest": float(max(values))}
