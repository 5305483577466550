"""The bootstrap's machinery: which clusters a resample holds, and how replicates become an interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from policylens.errors import UserError
from policylens.statistics import checks

METHODS = ("bca", "percentile")

_ENTRIES_IN_MEMORY = 1 << 22


@dataclass(frozen=True)
class Resampling:
    """How to bootstrap.

    seed: of the PCG64 generator that draws clusters.
    level: coverage of the interval.
    n_resamples: replicates.
    method: "bca" (default) or "percentile", see :func:`interval`.
    unit: what a cluster is, for the record.
    """

    seed: int
    level: float = 0.95
    n_resamples: int = 4000
    method: str = "bca"
    unit: str = "episode"

    def __post_init__(self) -> None:
        """Refuse settings that give no interval: fewer than 10 replicates beyond each end tell nothing."""
        checks.open_unit_interval(self.level, "level")
        needed = int(np.ceil(20 / (1 - self.level)))
        checks.count(self.n_resamples, f"n_resamples for a {100 * self.level:g}% interval", needed)
        if self.method not in METHODS:
            raise UserError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")

    def picks(self, n_clusters: int) -> Iterator[np.ndarray]:
        """Blocks of resamples, each (b, n_clusters) positions of clusters drawn with replacement."""
        rng = np.random.default_rng(self.seed)
        block = max(1, _ENTRIES_IN_MEMORY // n_clusters)
        for start in range(0, self.n_resamples, block):
            size = min(block, self.n_resamples - start)
            yield rng.integers(0, n_clusters, size=(size, n_clusters))

    def weights(self, n_clusters: int) -> Iterator[np.ndarray]:
        """The same blocks as :meth:`picks`, as float64 (b, n_clusters): how often each cluster was drawn."""
        for picks in self.picks(n_clusters):
            picks += n_clusters * np.arange(len(picks))[:, None]
            counts = np.bincount(picks.ravel(), minlength=picks.size)
            yield counts.reshape(picks.shape).astype(np.float64)


def interval(
    replicates: np.ndarray,
    value: np.ndarray,
    n_clusters: int,
    resampling: Resampling,
    jackknife: Callable[[], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval from bootstrap replicates: two float64 arrays (k,).

    replicates: (b, k), all finite; sorted in place.
    value: (k,) the statistic of the data.
    jackknife: gives the (c, k) statistics with one cluster left out at a time; called for "bca" only.

    "percentile" takes the quantiles of the replicates. "bca" shifts which quantiles are taken by the
    replicates' median bias and by the skewness of the clusters' influence: Efron, "Better bootstrap
    confidence intervals", JASA 82 (1987), with ties counted half. It is the default because effects here are
    ratios over episodes of very unequal weight, whose replicates are skewed: its two tails miss more evenly,
    and the jackknife costs nothing for functions of sums. Take "percentile" for medians, maxima and other
    statistics that jump, where the jackknife is not consistent.

    Replicates of c clusters spread too little by sqrt((c - 1) / c), and a normal quantile ignores that the
    spread is itself estimated: both methods take the levels at sqrt(c / (c - 1)) t_{c-1} in place of the
    normal quantile (Hesterberg, "What teachers should know about the bootstrap", American Statistician 69
    (2015)). In simulation, 15 normal clusters of unequal length are then covered 93% of the time
    in place of 90%. Heavy-tailed clusters stay short of the level (about 90% for 40 to 120 episodes with
    gamma(1/2) rates): an interval from few, very unequal episodes is optimistic, whatever the method.
    """
    expansion = np.sqrt(n_clusters / (n_clusters - 1))
    z = expansion * stdtrit(n_clusters - 1, (1 - resampling.level) / 2) * np.array([[1.0], [-1.0]])
    if resampling.method == "bca":
        bias = _median_bias(replicates, value)
        shifted = bias + z
        z = bias + shifted / np.maximum(1 - _acceleration(jackknife()) * shifted, 1e-9)
    replicates.sort(axis=0)
    low, high = (_quantiles(replicates, ndtr(end)) for end in np.broadcast_to(z, (2, len(value))))
    return low, high


def _median_bias(replicates: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Normal quantile of the share of replicates under the value: (k,). Equal up to rounding counts half."""
    slack = 1e-12 * np.abs(value)
    below = (replicates < value - slack).mean(axis=0)
    above = (replicates > value + slack).mean(axis=0)
    edge = 0.5 / len(replicates)
    return ndtri(np.clip(0.5 * (1 + below - above), edge, 1 - edge))


def _acceleration(leave_one_out: np.ndarray) -> np.ndarray:
    """A sixth of the skewness of the influence values: (k,); 0 for a statistic that no cluster changes."""
    influence = leave_one_out.mean(axis=0) - leave_one_out
    spread = (influence**2).sum(axis=0) ** 1.5
    return np.divide((influence**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)


def _quantiles(ascending: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantile of each column at its own level, linear between order statistics: (k,)."""
    place = levels * (len(ascending) - 1)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, len(ascending) - 1)
    columns = np.arange(ascending.shape[1])
    at_lower, at_upper = ascending[lower, columns], ascending[upper, columns]
    return at_lower + (place - lower) * (at_upper - at_lower)
