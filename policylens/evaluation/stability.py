"""Do two trainings that differ in their seed find the same features?

Decoder directions of the latents that are alive in both SAEs are matched one to one by cosine, as in Paulo and
Belrose, "Sparse autoencoders trained on the same data learn different features" (2025), arXiv:2501.16615; mean
maximum cosine similarity is that of Sharkey, Braun and Millidge, "Taking features out of superposition with sparse
autoencoders" (2022). Beside each number stands its null: random directions in the place of the second SAE's, and
for activations the second SAE's latents on the rows of other episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.evaluation.matching import (
    Matching,
    Nearest,
    best_assignment,
    match_directions,
    nearest,
    shares,
)
from policylens.statistics.directions import covariance_factor, drawn_with, isotropic

DRAWS = 3
"""Sets of random directions per null: each holds as many directions as the SAE has alive latents."""

NUMBERS = ("mean_matched", "mean_max")


def agreement(matching: Matching, closest: Nearest) -> dict[str, Any]:
    """The numbers by which two dictionaries are compared.

    mean_matched: mean similarity of the partners. mean_max: mean over all vectors of both sides of their largest
    similarity to the other side. shares: threshold -> share of all vectors of both sides with a partner as similar.
    pairs: number of partners. method: of the matching.
    """
    count = len(closest.of_first) + len(closest.of_second)
    matched = float(matching.similarity.mean()) if len(matching.similarity) else 0.0
    return {
        "method": matching.method,
        "pairs": len(matching.first),
        "mean_matched": matched,
        "mean_max": float((closest.of_first.sum() + closest.of_second.sum()) / count),
        "shares": shares(matching, count),
    }


def directions_agree(first: np.ndarray, second: np.ndarray) -> tuple[dict[str, Any], Matching]:
    """:func:`agreement` by cosine of unit vectors (a, d) and (b, d), and the partners."""
    matching = match_directions(first, second)
    return agreement(matching, nearest(first, second)), matching


def similarities_agree(similarity: np.ndarray) -> tuple[dict[str, Any], Matching]:
    """:func:`agreement` by a matrix (a, b) of similarities, and the partners."""
    closest = Nearest(
        similarity.max(axis=1).astype(np.float64),
        similarity.argmax(axis=1),
        similarity.max(axis=0).astype(np.float64),
        similarity.argmax(axis=0),
    )
    matching = best_assignment(similarity)
    return agreement(matching, closest), matching


class RandomDirections:
    """What two dictionaries with nothing in common would look like: sets of random unit vectors, float32.

    covariance: (d, d) of the site's activations. "isotropic": any direction of the space. "covariance": directions in
    which the site varies.
    """

    def __init__(self, covariance: np.ndarray, seed: int) -> None:
        self._factor, self._seed = covariance_factor(covariance), seed

    def sets(self, count: int) -> dict[str, list[np.ndarray]]:
        """Null -> DRAWS sets (count, d)."""
        seeds = [self._seed + number for number in range(DRAWS)]
        return {
            "isotropic": [isotropic(count, len(self._factor), seed).astype(np.float32) for seed in seeds],
            "covariance": [drawn_with(self._factor, count, seed).astype(np.float32) for seed in seeds],
        }


def null_agreement(first: np.ndarray, count: int, null: RandomDirections) -> dict[str, dict[str, Any]]:
    """Per null the mean of :func:`agreement` between `first` (a, d) and sets of `count` random directions."""
    return {
        name: averaged([directions_agree(first, drawn)[0] for drawn in sets]) for name, sets in null.sets(count).items()
    }


def averaged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of several agreements, number by number."""
    means = {name: float(np.mean([entry[name] for entry in found])) for name in NUMBERS}
    limits = found[0]["shares"]
    return means | {"shares": {limit: float(np.mean([entry["shares"][limit] for entry in found])) for limit in limits}}


def spread(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, smallest and largest of several agreements, number by number (pairs share seeds: this is no interval)."""

    def of(values: list[float]) -> dict[str, float]:
        return {"mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}

    numbers = {name: of([entry[name] for entry in found]) for name in NUMBERS}
    limits = found[0]["shares"]
    return numbers | {"shares": {limit: of([entry["shares"][limit] for entry in found]) for limit in limits}}


def same_partners(by_direction: Matching, by_activation: Matching, correlations: np.ndarray) -> dict[str, float]:
    """Whether matching by direction and by activation says the same.

    same: share of the pairs matched by direction that are matched by activation too. correlation: mean correlation
    of the activations of pairs matched by direction.
    """
    partner = np.full(len(correlations), -1)
    partner[by_activation.first] = by_activation.second
    of_pairs = correlations[by_direction.first, by_direction.second]
    return {
        "same": float((partner[by_direction.first] == by_direction.second).mean()),
        "correlation": float(of_pairs.mean(dtype=np.float64)),
    }
