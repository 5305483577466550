"""How the directions of two pairs of concepts lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from policylens.directions.cells import Cells
from policylens.directions.reliability import GROUPS, jackknife
from policylens.directions.vectors import DIRECTIONS, SUM_OF, WITH_BIAS
from policylens.directions.weights import contrast, enough_arrangements, relabelled
from policylens.statistics.nulls import p_values

PERMUTATIONS = 1000
STATISTICS = {
    "latent": "latent_direction",
    "residual": "residual_direction",
    "residual_with_bias": WITH_BIAS,
    "mean_difference": "mean_difference",
    "probe": "probe",
}
"""Name in statistics and in `expected` -> vector."""


@dataclass(frozen=True)
class Pair:
    """A pair's vectors by name, and its cells; None for one that was imported."""

    vectors: Mapping[str, np.ndarray]
    cells: Cells | None


def statistics(pairs: Mapping[str, Pair], seed: int) -> list[dict[str, Any]]:
    """For every two pairs: per vector the cosine and the norms; where both have cells, an interval and a p-value."""
    return [
        {
            "a": a,
            "b": b,
            "shared_episodes": _shared(pairs[a].cells, pairs[b].cells),
            **{name: compared(pairs[a], pairs[b], vector, seed) for name, vector in STATISTICS.items()},
        }
        for a, b in combinations(pairs, 2)
    ]


def flat(found: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The same as published tools have it: "a__b" -> latent_cosine, residual_norm_a and the like."""
    return {
        f"{entry['a']}__{entry['b']}": {
            f"{name}_{key}": None if entry[name] is None else entry[name][key]
            for name in STATISTICS
            for key in ("cosine", "norm_a", "norm_b")
        }
        for entry in found
    }


def compared(one: Pair, other: Pair, vector: str, seed: int) -> dict[str, Any] | None:
    """Two directions; None where either pair lacks the vector, or they are of different widths."""
    assert vector in DIRECTIONS
    first, second = one.vectors.get(vector), other.vectors.get(vector)
    if first is None or second is None or first.shape != second.shape:
        return None
    found = {"cosine": _cosine(first, second), "norm_a": _norm(first), "norm_b": _norm(second)}
    return {**found, **_sampled(one.cells, other.cells, vector, found["cosine"], seed)}


def _sampled(a: Cells | None, b: Cells | None, vector: str, value: float | None, seed: int) -> dict[str, Any]:
    """Interval (a jackknife over the episodes of both) and p of |cosine| when episodes exchange their concepts."""
    unknown = {"low": None, "high": None, "p": None, "null_q95": None}
    name = SUM_OF.get(vector)
    if name is None or value is None or a is None or b is None or not (a.known and b.known):
        return unknown
    sums = [_centred(cells, name) for cells in (a, b)]
    episodes = np.unique(np.concatenate([a.episode, b.episode]))
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.arange(len(episodes)) % GROUPS)
    kept = [(group[np.searchsorted(episodes, cells.episode)] != np.unique(group)[:, None]) * 1.0 for cells in (a, b)]
    weights = [contrast(cells, kept=own) for cells, own in zip((a, b), kept, strict=True)]
    low, high = jackknife(value, _cosines(sums, weights))
    found = unknown | {"low": _plain(low), "high": _plain(high)}
    if enough_arrangements(a) and enough_arrangements(b):
        drawn = [contrast(cells, relabelled(cells, PERMUTATIONS, rng)) for cells in (a, b)]
        null = np.abs(np.nan_to_num(_cosines(sums, drawn)))
        found |= {"p": float(p_values(abs(value), null, "greater")), "null_q95": float(np.quantile(null, 0.95))}
    return found


def _cosines(sums: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
    """(k,) cosines of weights @ sums, by products of the sums alone."""
    (s, t), (v, w) = sums, weights
    across = ((v @ (s @ t.T)) * w).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return across / np.sqrt(((v @ (s @ s.T)) * v).sum(-1) * ((w @ (t @ t.T)) * w).sum(-1))


def _centred(cells: Cells, name: str) -> np.ndarray:
    return cells.sums[name] - cells.count[:, None] * (cells.sums[name].sum(0) / cells.count.sum())


def _shared(a: Cells | None, b: Cells | None) -> int | None:
    if a is None or b is None or not (a.known and b.known):
        return None
    return len(np.intersect1d(a.episode, b.episode))


def _norm(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    size = _norm(a) * _norm(b)
    return float(a.astype(np.float64) @ b.astype(np.float64) / size) if size > 0 else None


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
