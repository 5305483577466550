"""Tests against rearranged labels: p-values that know that rows of one episode go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from policylens.statistics import checks
from policylens.statistics.clusters import Clusters
from policylens.statistics.exchanges import draws_of

Statistic = Callable[[np.ndarray], float | np.ndarray]


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """A statistic and its values under rearranged labels.

    observed: float or (k,).
    null: (permutations,) or (permutations, k), in the units of the statistic.
    scheme: "permute" or "circular".
    n_rows, n_clusters: rows and exchanged units.
    """

    observed: float | np.ndarray
    null: np.ndarray
    scheme: str
    n_rows: int
    n_clusters: int

    def p_values(self, alternative: str = "two-sided") -> float | np.ndarray:
        """As :func:`p_values`."""
        return p_values(self.observed, self.null, alternative)

    @property
    def excess(self) -> float | np.ndarray:
        """The statistic minus the mean of its null: what mutual information and its like are reported as."""
        return self.observed - self.null.mean(axis=0)


def p_values(observed: float | np.ndarray, null: np.ndarray, alternative: str = "two-sided") -> float | np.ndarray:
    """Permutation p-values, (1 + number at least as extreme) / (1 + permutations): never 0.

    observed: number or (k,).
    null: (permutations,) or (permutations, k).
    alternative: "greater", "less" or "two-sided", which is twice the smaller of the two, at most 1 (a null
        need not be centred on 0).

    Values equal up to rounding count as equally extreme. Phipson and Smyth, "Permutation p-values should
    never be zero", Statistical Applications in Genetics and Molecular Biology 9 (2010).
    """
    checks.alternative(alternative)
    values = checks.finite(observed, "observed statistic", (0, 1))
    draws = checks.finite(null, "null distribution", (values.ndim + 1,))
    if draws.shape[1:] != values.shape:
        checks.same_length(values, draws[0], "observed statistics and columns of the null")
    slack = 1e-10 * np.maximum(np.abs(values), np.abs(draws).max(axis=0))
    above = (1 + np.count_nonzero(draws >= values - slack, axis=0)) / (1 + len(draws))
    below = (1 + np.count_nonzero(draws <= values + slack, axis=0)) / (1 + len(draws))
    both = np.minimum(1.0, 2 * np.minimum(above, below))
    result = {"greater": above, "less": below, "two-sided": both}[alternative]
    return result if values.ndim else float(result)


def permutation_test(
    labels: np.ndarray,
    clusters: np.ndarray,
    statistic: Statistic,
    *,
    seed: int,
    n_permutations: int = 1000,
    blocks: np.ndarray | None = None,
) -> NullDistribution:
    """Compare a statistic with its values when labels are exchanged between whole clusters.

    labels: (n, ...) what moves; the statistic closes over what stays.
    clusters: (n,) id of each row's cluster.
    statistic: takes labels (n, ...) in the original order of the rows, returns a number or (k,).
    blocks: (n,) exchange within a block only (a map, a task).

    A label that is constant in every cluster is exchanged between all clusters; otherwise its sequence is,
    between clusters of equal length.
    """
    return _test("permute", labels, clusters, statistic, n_permutations, seed, blocks)


def circular_shift_test(
    labels: np.ndarray,
    clusters: np.ndarray,
    statistic: Statistic,
    *,
    seed: int,
    n_permutations: int = 1000,
) -> NullDistribution:
    """Compare a statistic with its values when labels are shifted circularly within each cluster.

    labels: (n, ...), rows of a cluster in time order.
    clusters, statistic: as in :func:`permutation_test`.

    Asks for alignment in time beyond the clusters' means; assumes that labels are stationary along the
    episode (see :class:`~policylens.statistics.exchanges.CircularShifts`).
    """
    return _test("circular", labels, clusters, statistic, n_permutations, seed, None)


def _test(
    scheme: str,
    labels: np.ndarray,
    clusters: np.ndarray,
    statistic: Statistic,
    n_permutations: int,
    seed: int,
    blocks: np.ndarray | None,
) -> NullDistribution:
    labels = np.asarray(labels)
    checks.same_length(labels, np.asarray(clusters), "labels and clusters")
    grouped = Clusters.of(clusters)
    ordered = grouped.sorted(labels)
    draws = draws_of(scheme, ordered, grouped, n_permutations, seed, blocks)
    null = [statistic(grouped.unsorted(ordered[draws.rows(i)])) for i in range(len(draws))]
    observed = np.asarray(statistic(labels), dtype=np.float64)
    null = np.asarray(null, dtype=np.float64)
    checks.finite(observed, "statistic", (0, 1))
    checks.finite(null, "statistic under rearranged labels", (1, 2))
    value = observed if observed.ndim else float(observed)
    return NullDistribution(value, null, scheme, grouped.n_rows, grouped.n_clusters)
