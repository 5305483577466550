"""Pearson's r of chosen pairs of an input and a candidate, and its mean over inputs, with intervals over episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from policylens.correlations.sample import Sample
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import bootstrap_sums
from policylens.statistics.resampling import Resampling, interval

PAIRS_AT_ONCE = 512


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


@dataclass(frozen=True)
class Pairs:
    """Pairs of an input and a candidate, (ranks, k) of them. columns: candidate. signs: with which it was chosen."""

    side: str
    columns: np.ndarray
    signs: np.ndarray


class Scorer:
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

    def pairs(self, side: str, order: np.ndarray, found: np.ndarray) -> Pairs:
        """order: (ranks, k) candidates. found: (k, candidates) their r on the split they were chosen on."""
        return Pairs(side, order, np.where(np.take_along_axis(found.T, order, 0) < 0, -1.0, 1.0))

    def terms(self, pairs: Pairs, rank: int, inputs: slice) -> tuple[np.ndarray, ...]:
        """Sums per episode, each (episodes, inputs), of what `correlation_of_sums` takes; y times its sign."""
        own = self.values[pairs.side][:, pairs.columns[rank, inputs]]
        y = (own.toarray() if scipy.sparse.issparse(own) else own) * pairs.signs[rank, inputs] * self.known[:, inputs]
        sums = self.grouped.sums
        of_x = (self.counts[:, inputs], self.sums_x[:, inputs], self.sums_xx[:, inputs])
        return of_x[0], of_x[1], sums(y), of_x[2], sums(y**2), sums(self.x[:, inputs] * y)

    def estimates(self, best: Pairs) -> Estimate:
        """r of the first candidates with its interval: (k,)."""
        terms = self.terms(best, 0, slice(None))
        return bootstrap_sums(terms, correlation_of_sums, self.resampling, n_rows=self.grouped.n_rows)

    def difference(self, first: Pairs, second: Pairs) -> Estimate:
        """r of the first candidates of one minus that of another, (k,)."""
        one, other = (self.terms(pairs, 0, slice(None)) for pairs in (first, second))

        def combine(*sums: np.ndarray) -> np.ndarray:
            return correlation_of_sums(*sums[:6]) - correlation_of_sums(*sums[6:])

        return bootstrap_sums((*one, *other), combine, self.resampling, n_rows=self.grouped.n_rows)

    def means(self, sets: dict[str, tuple[Pairs, np.ndarray]]) -> dict[str, Estimate]:
        """Mean over inputs of r, in each set the mean over ranks with their shares; and the differences of sets."""
        found = {name: self._mean(pairs, shares) for name, (pairs, shares) in sets.items()}
        found["latents_minus_units"] = found["latents"] - found["units"]
        if "latents_of_as_many" in found:
            found["latents_of_as_many_minus_units"] = found["latents_of_as_many"] - found["units"]
        else:
            found["latents_minus_units_of_as_many"] = found["latents"] - found["units_of_as_many"]
        return {name: self._estimate(means) for name, means in found.items()}

    def _mean(self, pairs: Pairs, shares: np.ndarray) -> np.ndarray:
        """The mean in the data, (1), without each episode in turn, (c), and in the resamples, one after the other."""

        def over(reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            """Mean for every row that `reduce` makes of the sums per episode."""
            k, total = pairs.columns.shape[1], np.zeros(1)
            for rank, share in enumerate(shares):
                for start in range(0, k, PAIRS_AT_ONCE):
                    terms = self.terms(pairs, rank, slice(start, start + PAIRS_AT_ONCE))
                    total = total + share * correlation_of_sums(*(reduce(term) for term in terms)).sum(1)
            return total / k

        resamples = self.resampling.weights(self.grouped.n_clusters)
        return np.concatenate(
            [
                over(lambda term: term.sum(0, keepdims=True)),
                over(lambda term: term.sum(0) - term),
                *(over(lambda term, w=weights: w @ term) for weights in resamples),
            ]
        )

    def _estimate(self, means: np.ndarray) -> Estimate:
        """means: of the data, of the data without each episode, of the resamples."""
        c = self.grouped.n_clusters
        value, left_out, replicates = means[:1], means[1 : c + 1, None], means[c + 1 :, None]
        low, high = interval(replicates.copy(), value, c, self.resampling, lambda: left_out)
        level = self.resampling.level
        return Estimate(float(value[0]), float(low[0]), float(high[0]), level, self.grouped.n_rows, c, "episode")
