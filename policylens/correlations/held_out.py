"""Does the best latent of an input stay its best elsewhere? Chosen on validation episodes, scored on test episodes.

The latent with the largest |r| of many is largest partly by luck. So it is chosen on one split and scored on another,
with the sign it was chosen with, and beside it the best of the site's own units, chosen and scored in the same way. An
SAE usually has more latents than the site has units, and more candidates find more: the side with more candidates is
scored once more with as many as the other (the expected best of a random subset of that size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from policylens.correlations.measure import correlations
from policylens.correlations.sample import Sample
from policylens.statistics.auc import best_of_subset
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import bootstrap_sums
from policylens.statistics.resampling import Resampling, interval

SIDES = ("latents", "units")
PAIRS_AT_ONCE = 512


@dataclass(frozen=True)
class HeldOut:
    """What is found. inputs: (k,) places of the inputs that could be chosen for: those that vary on both splits.

    chosen: side -> (k,) candidate. validation: side -> (k,) its r there. test: side -> its r on the test split, times
    the sign it was chosen with. difference: latents minus units, per input, on the same resamples. means: over these
    inputs, of the sides and of their difference: name -> estimate. candidates: side -> how many vary on validation.
    """

    inputs: np.ndarray
    chosen: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, Estimate]
    difference: Estimate
    means: dict[str, Estimate]
    candidates: dict[str, int]

    def record(self) -> dict[str, Any]:
        """Plain JSON values of what is not an array."""
        return {
            "candidates": self.candidates,
            "means": {name: estimate.record() for name, estimate in self.means.items()},
        }


def held_out(validation: Sample, test: Sample, resampling: Resampling) -> HeldOut | None:
    """Choose by Pearson's |r| on one split and score on the other; None where no input or candidate varies."""
    inputs = np.flatnonzero(_varies(validation.inputs) & _varies(test.inputs))
    found = {
        side: correlations(validation.inputs[:, inputs], values)["pearson"] for side, values in validation.sides.items()
    }
    alive = {side: np.flatnonzero(np.any(r != 0, axis=0)) for side, r in found.items()}
    if len(inputs) == 0 or any(len(own) == 0 for own in alive.values()):
        return None
    orders = {side: _order(found[side], alive[side]) for side in SIDES}
    scorer = _Scorer(test, inputs, resampling)
    best = {side: scorer.pairs(side, order[:1], found[side]) for side, order in orders.items()}
    counts = {side: len(own) for side, own in alive.items()}
    return HeldOut(
        inputs,
        {side: order[0] for side, order in orders.items()},
        {side: np.take_along_axis(found[side].T, order[:1], 0)[0] for side, order in orders.items()},
        {side: scorer.estimates(own) for side, own in best.items()},
        scorer.difference(best["latents"], best["units"]),
        scorer.means(_means(scorer, orders, found, counts)),
        counts,
    )


def correlation_of_sums(
    n: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    """Pearson's r from sums over rows: counts, of x, y, x^2, y^2 and xy; 0 where x or y is constant.

    Any shapes that broadcast. Sums should be of values near their mean: what is squared cancels otherwise.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_x, spread_y = xx - x**2 / n, yy - y**2 / n
        r = (xy - x * y / n) / np.sqrt(spread_x * spread_y)
    varies = (n > 0) & (spread_x > 1e-12 * xx) & (spread_y > 1e-12 * yy)
    return np.where(varies, np.clip(r, -1, 1), 0)


def _means(scorer: _Scorer, orders: Any, found: Any, counts: dict[str, int]) -> dict[str, tuple[_Pairs, np.ndarray]]:
    """What means are taken of: both sides with all their candidates, and the larger with as many as the smaller."""
    sets = {side: (order[:1], np.ones(1)) for side, order in orders.items()}
    larger, smaller = sorted(SIDES, key=lambda side: -counts[side])
    shares = best_of_subset(counts[larger], counts[smaller])
    sets[f"{larger}_of_as_many"] = (orders[larger][: len(shares)], shares)
    return {
        name: (scorer.pairs(name.removesuffix("_of_as_many"), order, found[name.removesuffix("_of_as_many")]), shares)
        for name, (order, shares) in sets.items()
    }


@dataclass(frozen=True)
class _Pairs:
    """Pairs of an input and a candidate, (ranks, k) of them. columns: candidate. signs: with which it was chosen."""

    side: str
    columns: np.ndarray
    signs: np.ndarray


class _Scorer:
    """Scores pairs on a split, from sums per episode."""

    def __init__(self, split: Sample, inputs: np.ndarray, resampling: Resampling) -> None:
        self.resampling = resampling
        self.grouped = Clusters.of(split.episodes)
        values = split.inputs[:, inputs]
        self.known = ~np.isnan(values)
        self.x = np.where(self.known, values - np.nanmean(values, axis=0), 0)
        self.values = {
            side: own.tocsc() if scipy.sparse.issparse(own) else own - own.mean(0) for side, own in split.sides.items()
        }
        self.counts, self.sums_x, self.sums_xx = (
            self.grouped.sums(part) for part in (self.known.astype(np.float64), self.x, self.x**2)
        )

    def pairs(self, side: str, order: np.ndarray, found: np.ndarray) -> _Pairs:
        """order: (ranks, k) candidates. found: (k, candidates) their r on the split they were chosen on."""
        return _Pairs(side, order, np.where(np.take_along_axis(found.T, order, 0) < 0, -1.0, 1.0))

    def terms(self, pairs: _Pairs, rank: int, inputs: slice) -> tuple[np.ndarray, ...]:
        """Sums per episode, each (episodes, inputs), of what `correlation_of_sums` takes; y times its sign."""
        own = self.values[pairs.side][:, pairs.columns[rank, inputs]]
        y = (own.toarray() if scipy.sparse.issparse(own) else own) * pairs.signs[rank, inputs] * self.known[:, inputs]
        sums = self.grouped.sums
        of_x = (self.counts[:, inputs], self.sums_x[:, inputs], self.sums_xx[:, inputs])
        return of_x[0], of_x[1], sums(y), of_x[2], sums(y**2), sums(self.x[:, inputs] * y)

    def estimates(self, best: _Pairs) -> Estimate:
        """r of the first candidates with its interval: (k,)."""
        terms = self.terms(best, 0, slice(None))
        return bootstrap_sums(terms, correlation_of_sums, self.resampling, n_rows=self.grouped.n_rows)

    def difference(self, first: _Pairs, second: _Pairs) -> Estimate:
        """r of the first candidates of one minus that of another, (k,)."""
        one, other = (self.terms(pairs, 0, slice(None)) for pairs in (first, second))

        def combine(*sums: np.ndarray) -> np.ndarray:
            return correlation_of_sums(*sums[:6]) - correlation_of_sums(*sums[6:])

        return bootstrap_sums((*one, *other), combine, self.resampling, n_rows=self.grouped.n_rows)

    def means(self, sets: dict[str, tuple[_Pairs, np.ndarray]]) -> dict[str, Estimate]:
        """Mean over inputs of r, in each set the mean over ranks with their shares; and the differences of sets."""
        weights = np.concatenate(
            [
                np.ones((1, self.grouped.n_clusters)),
                1 - np.eye(self.grouped.n_clusters),  # one episode left out at a time
                *self.resampling.weights(self.grouped.n_clusters),
            ]
        )
        found = {name: self._mean(pairs, shares, weights) for name, (pairs, shares) in sets.items()}
        found["latents_minus_units"] = found["latents"] - found["units"]
        if "latents_of_as_many" in found:
            found["latents_of_as_many_minus_units"] = found["latents_of_as_many"] - found["units"]
        else:
            found["latents_minus_units_of_as_many"] = found["latents"] - found["units_of_as_many"]
        return {name: self._estimate(means) for name, means in found.items()}

    def _mean(self, pairs: _Pairs, shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(weightings,) of the episodes: the mean under each."""
        k, total = pairs.columns.shape[1], np.zeros(len(weights))
        for rank, share in enumerate(shares):
            for start in range(0, k, PAIRS_AT_ONCE):
                terms = self.terms(pairs, rank, slice(start, start + PAIRS_AT_ONCE))
                total += share * correlation_of_sums(*(weights @ term for term in terms)).sum(1)
        return total / k

    def _estimate(self, means: np.ndarray) -> Estimate:
        """means: of the data, of the data without each episode, of the resamples."""
        c = self.grouped.n_clusters
        value, left_out, replicates = means[:1], means[1 : c + 1, None], means[c + 1 :, None]
        low, high = interval(replicates.copy(), value, c, self.resampling, lambda: left_out)
        level = self.resampling.level
        return Estimate(float(value[0]), float(low[0]), float(high[0]), level, self.grouped.n_rows, c, "episode")


def _varies(inputs: np.ndarray) -> np.ndarray:
    """(k,) whether an input has two values at least; NaN counts for none."""
    known = ~np.isnan(inputs)
    largest = np.where(known, inputs, -np.inf).max(0)
    return largest > np.where(known, inputs, np.inf).min(0)


def _order(r: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """(alive candidates, k): for each input all candidates, the largest |r| first; ties by number."""
    return alive[np.argsort(-np.abs(r[:, alive]).T, axis=0, kind="stable")]
