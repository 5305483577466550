"""Area under the ROC curve of features against binary labels, and what its bootstrap over clusters needs.

AUC = sum over pairs of a positive and a negative row of [positive higher] + [equal] / 2, divided by the number of
pairs. With strata only pairs within one stratum count, in numerator and denominator.

Features are mostly 0 where they are latents of an SAE: only the rows that are not 0 are ever sorted or visited.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from policylens.errors import UserError
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import bootstrap_mean_ratio, bootstrap_ratio
from policylens.statistics.resampling import Resampling

SMALLEST_WEIGHT = 1e-6


def midranks(features: np.ndarray) -> np.ndarray:
    """Rank within each column of (n, k), from 1, ties sharing their mean: float64 (n, k)."""
    ranks = np.empty(features.shape, order="F")
    for column, out in zip(np.asfortranarray(features).T, ranks.T, strict=True):
        active, starts, ends = _sorted_groups(column)
        negative, zeros = int((column[active] < 0).sum()), len(column) - len(active)
        out[:] = negative + (zeros + 1) / 2
        places = (starts + ends + 1) / 2 + np.where(starts >= negative, zeros, 0)
        out[active] = np.repeat(places, ends - starts)
    return ranks


def _sorted_groups(column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are not 0, ascending by value, and where each group of equal values starts and ends among them."""
    active = np.flatnonzero(column)
    values = column[active]
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    starts = np.concatenate([[0], changes]) if len(active) else np.empty(0, np.int64)
    return active[order], starts, np.append(starts[1:], len(active)) if len(active) else starts


def aucs(features: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUC of every feature against every label: float64 (k, t); 0.5 for a constant feature.

    features: (n, k) floats. positive: (n, t) of 0 and 1, in every column both.
    """
    labels = np.asarray(positive, np.float64)
    count = labels.sum(0)
    rest = len(labels) - count
    if np.any(count == 0) or np.any(rest == 0):
        raise UserError("labels: AUC needs positive and negative rows of each label")
    return (midranks(features).T @ labels - count * (count + 1) / 2) / (count * rest)


@dataclass(frozen=True)
class _Stratum:
    """Rows of one stratum. labels: (n, t) of 0 and 1. clusters: (n,). positive, negative: (c, t) rows per cluster."""

    rows: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


class Pairs:
    """The pairs of positive and negative rows under t labels, for scoring many features on the same rows.

    totals: (c, t), per cluster the pairs that its rows are part of: of a positive row all negatives, and the reverse.
    Summed over clusters every pair counts twice.
    """

    def __init__(
        self, positive: np.ndarray, clusters: np.ndarray, n_clusters: int, strata: np.ndarray | None = None
    ) -> None:
        """positive: (n, t) bool. clusters: (n,) 0 to n_clusters - 1. strata: (n,) integers; None: one stratum."""
        strata = np.zeros(len(positive), np.int64) if strata is None else strata
        self.n_clusters = n_clusters
        self._strata = [self._stratum(np.flatnonzero(strata == s), positive, clusters) for s in np.unique(strata)]
        self.totals = np.zeros((n_clusters, positive.shape[1]))
        for stratum in self._strata:
            self.totals += stratum.positive * stratum.negative.sum(0) + stratum.negative * stratum.positive.sum(0)

    def _stratum(self, rows: np.ndarray, positive: np.ndarray, clusters: np.ndarray) -> _Stratum:
        labels, owners = positive[rows].astype(np.float64), clusters[rows]
        of_clusters = _summing(owners, self.n_clusters)
        count = of_clusters @ labels
        return _Stratum(rows, labels, owners, count, np.bincount(owners, minlength=self.n_clusters)[:, None] - count)

    def wins(self, scores: np.ndarray, targets: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Per cluster, how many pairs of its rows have the positive row higher, ties counted half: (c, targets).

        scores: (n,). With `totals`: AUC = wins.sum(0) / totals.sum(0); the negated scores win totals - wins.
        """
        return sum(self._wins(stratum, scores[stratum.rows], targets) for stratum in self._strata)

    def _wins(self, stratum: _Stratum, scores: np.ndarray, targets: np.ndarray | slice) -> np.ndarray:
        active, starts, ends = _sorted_groups(scores)
        positive, negative = stratum.positive[:, targets], stratum.negative[:, targets]
        labels = stratum.labels[active[:, None], np.arange(stratum.labels.shape[1])[targets]]
        in_group = np.add.reduceat(labels, starts, axis=0) if len(active) else np.empty((0, positive.shape[1]))
        size = (ends - starts)[:, None]
        before = np.cumsum(in_group, axis=0) - in_group
        above_zero = (scores[active[starts]] > 0)[:, None]
        silent = positive.sum(0) - in_group.sum(0)
        silent_rest = len(scores) - len(active) - silent
        higher = positive.sum(0) - before - in_group / 2 - above_zero * silent
        lower = starts[:, None] - before + (size - in_group) / 2 + above_zero * silent_rest
        per_group = np.repeat(np.arange(len(starts)), ends - starts)
        won = np.where(labels > 0, lower[per_group], higher[per_group])
        summing = _summing(stratum.clusters[active], self.n_clusters)
        active_positive = summing @ labels
        active_negative = summing @ np.ones(len(active)) - active_positive.T
        low = ~above_zero[:, 0]
        silent_lower = (size - in_group)[low].sum(0) + silent_rest / 2
        silent_higher = in_group[~low].sum(0) + silent / 2
        return (
            summing @ won + (positive - active_positive) * silent_lower + (negative - active_negative.T) * silent_higher
        )


def _summing(owners: np.ndarray, n_clusters: int) -> scipy.sparse.csr_array:
    """The (n_clusters, n) matrix of 0 and 1 that sums rows by cluster."""
    order = np.argsort(owners, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=n_clusters))])
    return scipy.sparse.csr_array((np.ones(len(owners)), order, ends), shape=(n_clusters, len(owners)))


def auc_of(wins: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """(t,) AUC from (c, t) wins and totals; NaN where there is no pair."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return wins.sum(0) / totals.sum(0)


def auc_estimates(wins: np.ndarray, totals: np.ndarray, resampling: Resampling, n_rows: int) -> Estimate:
    """AUC of every label with its interval over clusters: k = t estimates.

    wins, totals: (c, t) of :class:`Pairs`. A resample of clusters weights rows, and AUC is a ratio of two quadratic
    forms in the weights. It is replaced by its first-order expansion 2 G(w) / H(w) - AUC (G, H: wins and totals
    under the weights), the clustered form of DeLong's placement values: Obuchowski, "Nonparametric analysis of
    clustered ROC curve data", Biometrics 53 (1997). What is left out is of the order of 1 / clusters.
    """
    found = bootstrap_ratio(_expanded(wins, totals), totals, resampling, n_rows=n_rows, undefined="nan")
    low, high = (np.clip(end, 0, 1) for end in (found.low, found.high))
    return Estimate(auc_of(wins, totals), low, high, found.level, found.n_rows, found.n_clusters, found.unit)


def mean_auc(wins: np.ndarray, totals: np.ndarray, resampling: Resampling, n_rows: int) -> Estimate:
    """Mean AUC over the labels that have pairs at all, with its interval over clusters; arguments as above."""
    there = totals.sum(0) > 0
    return bootstrap_mean_ratio(_expanded(wins, totals)[:, there], totals[:, there], resampling, n_rows=n_rows)


def mean_auc_difference(
    first: np.ndarray, second: np.ndarray, totals: np.ndarray, resampling: Resampling, n_rows: int
) -> Estimate:
    """Mean over labels of the difference of two features' AUC on the same rows: a resample keeps pairs together.

    first, second: (c, t) wins. totals: (c, t), the same for both.
    """
    there = totals.sum(0) > 0
    difference = _expanded(first, totals) - _expanded(second, totals)
    return bootstrap_mean_ratio(difference[:, there], totals[:, there], resampling, n_rows=n_rows)


def _expanded(wins: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """(c, t) numerators that, summed and divided by the summed totals, give 2 G / H - AUC."""
    return 2 * wins - np.nan_to_num(auc_of(wins, totals)) * totals


def best_of_subset(candidates: int, chosen: int) -> np.ndarray:
    """Probability that the best of a random subset is the candidate of rank r (0 first): float64 (ranks,).

    candidates: how many there are. chosen: size of the subset, drawn without replacement. The best has rank r if r is
    drawn and none before it: C(candidates - r - 1, chosen - 1) / C(candidates, chosen). Ranks with less than 1e-6
    are left out, and the rest scaled to sum to 1.
    """
    if not 1 <= chosen <= candidates:
        raise UserError(f"a subset of {chosen} cannot be drawn from {candidates} candidates")
    ranks = np.arange(candidates - chosen + 1)
    # The share at rank r is the share at rank r - 1 times (candidates - r - chosen + 1) / (candidates - r).
    steps = (candidates - ranks[1:] - chosen + 1) / (candidates - ranks[1:])
    shares = chosen / candidates * np.concatenate([[1.0], np.cumprod(steps)])
    shares = shares[: np.flatnonzero(shares >= min(SMALLEST_WEIGHT, shares[0]))[-1] + 1]
    return shares / shares.sum()
