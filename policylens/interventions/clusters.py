"""Latents in clusters by causal profile: which do the same, and would other episodes say so too?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from policylens.interventions.profiles import half_effects, halvings, profiles, scales_of
from policylens.statistics.clouds import single_cloud
from policylens.statistics.nulls import p_values
from policylens.statistics.partitions import adjusted_rand, k_means, silhouettes

Effects = Mapping[str, np.ndarray]

COMPONENTS = 50
"""Profiles are clustered on so many principal axes (about 0): what is left out is noise in a thousand units."""
MOST = 10
FEWEST_LATENTS = 12
SEEDS = 10
CLOUDS = 99
PERMUTATIONS = 999
GOOD = 0.65
"""An adjusted Rand index below this is poor recovery: Steinley, Psychological Methods 9 (2004), table 5."""
STRONGEST = 6


@dataclass(frozen=True)
class Profiles:
    """points: (k, c) of the latents that do anything, on principal axes. halves: the same from disjoint episodes.

    kept: (k,) their places among all latents. explained: share of the profiles' squared length on the axes.
    """

    points: np.ndarray
    halves: list[tuple[np.ndarray, np.ndarray]]
    kept: np.ndarray
    explained: float

    @classmethod
    def of(cls, folds: Effects, fold_rows: Sequence[int]) -> Profiles:
        """folds: outcome -> (k, folds, units), mean effects over the rows of each fold of episodes."""
        effects = half_effects(folds, fold_rows)
        scales = scales_of(effects)
        cut = [
            tuple(profiles(half_effects(folds, fold_rows, half), scales) for half in pair)
            for pair in halvings(fold_rows)
        ]
        whole = profiles(effects, scales)
        kept = np.flatnonzero(np.logical_and.reduce([part.any(1) for part in (whole, *sum(cut, ()))]))
        whole = whole[kept]
        values, axes = np.linalg.svd(whole, full_matrices=False)[1:] if len(kept) else (np.ones(1), np.zeros((1, 1)))
        axes = axes[:COMPONENTS]
        explained = float((values[:COMPONENTS] ** 2).sum() / (values**2).sum())
        if not len(kept):
            return cls(np.zeros((0, 1)), [], kept, explained)
        return cls(whole @ axes.T, [(a[kept] @ axes.T, b[kept] @ axes.T) for a, b in cut], kept, explained)


def clustered(
    latents: np.ndarray, folds: Effects, fold_rows: Sequence[int], count: int | None, seed: int
) -> dict[str, Any] | None:
    """The entry `clusters` of a mode; None where fewer than FEWEST_LATENTS latents do anything in every half.

    latents: (k,) their numbers. folds: outcome -> (k, folds, units), mean effects over the rows of each fold.
    count: of clusters; None: from 2 to MOST whatever has the largest mean silhouette.
    """
    found = Profiles.of(folds, fold_rows)
    if len(found.kept) < max(FEWEST_LATENTS, 3 * (count or 2)):
        return None
    counts = [count] if count else list(range(2, min(MOST, len(found.kept) // 3) + 1))
    separation = {k: _separation(found.points, k, seed) for k in counts}
    best = max(separation, key=separation.__getitem__)
    labels = k_means(found.points, best, seed)
    clouds = Clouds(found, seed)
    null = np.array([max(_separation(cloud, k, seed, 2) for k in counts) for cloud in clouds.points()])
    p = p_values(separation[best], null, "greater")
    stability = _stability(found, labels, best, seed, clouds)
    return {
        "count": best,
        "chosen_by": "config" if count else "silhouette",
        "n_latents": len(found.kept),
        "components": found.points.shape[1],
        "explained": found.explained,
        "silhouettes": {str(k): value for k, value in separation.items()},
        "silhouette_of_clouds": {"median": float(np.median(null)), "high": float(np.quantile(null, 0.95)), "p": p},
        "separated": bool(p <= 0.05),
        "stability": stability,
        "stable": None if stability is None else bool(stability["halves"]["mean"] >= GOOD),
        "clusters": _described(latents[found.kept], labels, found, half_effects(folds, fold_rows)),
    }


def _separation(points: np.ndarray, k: int, seed: int, restarts: int = 5) -> float:
    return float(silhouettes(points, k_means(points, k, seed, restarts)).mean())


class Clouds:
    """What profiles without clusters would look like: single clouds with the profiles' mean and covariance.

    Each point of a cloud is a random mixture of the profiles' deviations from their mean, brought back to the mean
    length: normal, but for that, with the same covariance.
    """

    def __init__(self, found: Profiles, seed: int) -> None:
        self._found, self._seed = found, seed
        self._length = float(np.linalg.norm(found.points, axis=1).mean())

    def points(self) -> list[np.ndarray]:
        """CLOUDS sets of as many points as there are profiles."""
        return [self._drawn(np.random.default_rng([self._seed, number])) for number in range(CLOUDS)]

    def halves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same clouds seen twice, each time with the noise that a half of the episodes has (of another latent)."""
        pairs = []
        for number in range(CLOUDS):
            rng = np.random.default_rng([self._seed, number])
            cloud = self._drawn(rng)
            first, second = self._found.halves[number % len(self._found.halves)]
            noise = [(half - self._found.points)[rng.permutation(len(cloud))] for half in (first, second)]
            pairs.append((self._scaled(cloud + noise[0]), self._scaled(cloud + noise[1])))
        return pairs

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return self._scaled(single_cloud(self._found.points, rng))

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return points * (self._length / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12))


def _stability(found: Profiles, labels: np.ndarray, k: int, seed: int, clouds: Clouds) -> dict[str, Any] | None:
    """Adjusted Rand indices between halves of the episodes and between seeds, and their nulls."""
    if not found.halves:
        return None
    cut = [(k_means(a, k, seed), k_means(b, k, seed + 1)) for a, b in found.halves]
    halves = [adjusted_rand(a, b) for a, b in cut]
    rng = np.random.default_rng(seed)
    same = [_cosines(a, b).mean() for a, b in found.halves]
    different = [_cosines(a, b[rng.permutation(len(b))]).mean() for a, b in found.halves]
    permuted = [np.mean([adjusted_rand(a, rng.permutation(b)) for a, b in cut]) for _ in range(PERMUTATIONS)]
    cloudy = [adjusted_rand(k_means(a, k, seed, 2), k_means(b, k, seed + 1, 2)) for a, b in clouds.halves()]
    others = [k_means(found.points, k, seed + number) for number in range(1, SEEDS)]
    seeds = [adjusted_rand(a, b) for a, b in combinations([labels, *others], 2)]
    return {
        "halves": _spread(halves) | {"values": halves},
        "permuted_high": float(np.quantile(permuted, 0.95)),
        "clouds": {"mean": float(np.mean(cloudy)), "high": float(np.quantile(cloudy, 0.95))},
        "seeds": _spread(seeds),
        "reliability": float(np.mean(same)),
        "reliability_of_others": float(np.mean(different)),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "lowest": float(min(values)), "highest": float(max(values))}


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(1), lengths, out=np.zeros(len(first)), where=lengths > 0)


def _described(latents: np.ndarray, labels: np.ndarray, found: Profiles, effects: Effects) -> list[dict[str, Any]]:
    """Per cluster its latents, how well it is separated, and what it does most.

    effects: of all latents, outcome -> (k, units). outcomes: share of the mean profile's squared length. strongest:
    units with the largest mean profile; mean: over the cluster's latents of what more of them does (own units).
    """
    own, whole = silhouettes(found.points, labels), profiles(effects)[found.kept]
    units = [(name, unit) for name, values in effects.items() for unit in range(values.shape[1])]
    entries = []
    for cluster in range(int(labels.max()) + 1):
        members = labels == cluster
        mean = whole[members].mean(0)
        total = float((mean**2).sum()) or 1.0
        shares = dict.fromkeys(effects, 0.0)
        for (name, _), value in zip(units, mean, strict=True):
            shares[name] += float(value**2) / total
        strongest = [units[place] for place in np.argsort(-np.abs(mean), kind="stable")[:STRONGEST] if mean[place]]
        entries.append(
            {
                "latents": latents[members].tolist(),
                "silhouette": float(own[members].mean()),
                "outcomes": shares,
                "strongest": [
                    {"outcome": name, "unit": unit, "mean": float(effects[name][found.kept[members], unit].mean())}
                    for name, unit in strongest
                ],
            }
        )
    return entries
