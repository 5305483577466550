"""Random rearrangements of labels that respect episodes: what the nulls are drawn from.

Two schemes. "permute" exchanges the labels of whole clusters: exact when clusters are exchangeable.
"circular" shifts the labels within each cluster by a random number of steps, wrapping round: keeps the
label's own autocorrelation and every cluster's mean, and breaks the alignment in time. Both draw from a group
that holds the identity.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse
from scipy.special import gammaln

from policylens.errors import UserError
from policylens.statistics import checks
from policylens.statistics.clusters import Clusters

SCHEMES = ("permute", "circular")

MINIMUM_ARRANGEMENTS = 20
"""Fewer distinct rearrangements than this can never give a p-value of .05."""


class CircularShifts:
    """Random shifts within clusters.

    grouped: the clusters; rows of each must come in time order. n: number of draws.
    shifts: (n, c) int64: in draw i, step t of cluster j takes the label of step (t + shifts[i, j]) mod
        length.

    A label locked to the phase of the episode is associated with every feature that follows the phase: this
    null breaks that association too, so that it counts as a finding. Condition on phase where it should not.
    """

    def __init__(self, grouped: Clusters, n: int, seed: int) -> None:
        _enough(float(np.log(grouped.lengths).sum()), "steps to shift by")
        self.grouped = grouped
        rng = np.random.default_rng(seed)
        self.shifts = rng.integers(0, grouped.lengths, size=(n, grouped.n_clusters))

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.shifts)

    @cached_property
    def selection(self) -> scipy.sparse.csr_array:
        """(n, n_rows): one 1 per draw and cluster, in the place of its shift among the cluster's rows."""
        chosen = (self.grouped.starts + self.shifts).ravel()
        ends = self.grouped.n_clusters * np.arange(len(self) + 1)
        shape = (len(self), self.grouped.n_rows)
        return scipy.sparse.csr_array((np.ones(len(chosen)), chosen, ends), shape=shape)

    def rows(self, draw: int) -> np.ndarray:
        """(n_rows,) for each sorted row, the sorted row whose label it takes."""
        grouped = self.grouped
        step = np.arange(grouped.n_rows) - np.repeat(grouped.starts, grouped.lengths)
        shifted = step + np.repeat(self.shifts[draw], grouped.lengths)
        lengths = np.repeat(grouped.lengths, grouped.lengths)
        return shifted % lengths + np.repeat(grouped.starts, grouped.lengths)


class ClusterPermutations:
    """Random exchanges of labels between clusters.

    grouped: the clusters. constant: whether the label has one value per cluster; it can then move between
    clusters of any lengths, a sequence only between clusters of equal length (step t to step t, so that phase
    is kept). blocks: (n_rows,) integers or strings in the rows' original order; exchanges stay within a block
    (a map, a task), and a cluster lies in one block. donors: (n, c) int32: in draw i, cluster j takes the
    labels of cluster donors[i, j].
    """

    def __init__(self, grouped: Clusters, constant: bool, n: int, seed: int, blocks: np.ndarray | None = None) -> None:
        self.grouped = grouped
        self.constant = constant
        pools = _pools(grouped, constant, blocks)
        _enough(float(gammaln(np.bincount(pools) + 1).sum()), "clusters of equal length and block to exchange")
        rng = np.random.default_rng(seed)
        members = np.argsort(pools, kind="stable")
        self.donors = np.empty((n, grouped.n_clusters), dtype=np.int32)
        for donors in self.donors:
            # Sorted by pool first and by chance second, every pool's members come out shuffled.
            donors[members] = np.argsort(pools + rng.random(len(pools)), kind="stable")

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.donors)

    def rows(self, draw: int) -> np.ndarray:
        """(n_rows,) for each sorted row, a sorted row whose label it takes."""
        grouped = self.grouped
        moved = np.repeat(grouped.starts[self.donors[draw]], grouped.lengths)
        if self.constant:
            return moved
        return moved + np.arange(grouped.n_rows) - np.repeat(grouped.starts, grouped.lengths)


def draws_of(
    scheme: str, labels: np.ndarray, grouped: Clusters, n: int, seed: int, blocks: np.ndarray | None = None
) -> CircularShifts | ClusterPermutations:
    """The draws of a scheme for labels (n_rows, ...) that are sorted by cluster already."""
    checks.count(n, "n_permutations", MINIMUM_ARRANGEMENTS - 1)
    if scheme == "circular":
        if blocks is not None:
            raise UserError("blocks: circular shifts stay within a cluster and take none")
        return CircularShifts(grouped, n, seed)
    if scheme == "permute":
        return ClusterPermutations(grouped, constant_in_clusters(labels, grouped), n, seed, blocks)
    raise UserError(f"scheme: expected one of {', '.join(SCHEMES)}, got {scheme!r}")


def constant_in_clusters(labels: np.ndarray, grouped: Clusters) -> bool:
    """Whether labels (n_rows, ...), sorted by cluster, have one value in each cluster."""
    return bool(np.all(labels == np.repeat(labels[grouped.starts], grouped.lengths, axis=0)))


def _pools(grouped: Clusters, constant: bool, blocks: np.ndarray | None) -> np.ndarray:
    """(c,) number of the pool within which each cluster may exchange labels."""
    lengths = np.zeros_like(grouped.lengths) if constant else grouped.lengths
    if blocks is None:
        block = np.zeros_like(lengths)
    else:
        of_row = grouped.sorted(np.asarray(blocks))
        if of_row.ndim != 1 or not constant_in_clusters(of_row, grouped):
            raise UserError("blocks: expected one value per row, the same for all rows of a cluster")
        block = np.unique(of_row[grouped.starts], return_inverse=True)[1].reshape(-1)
    return np.unique(np.stack([block, lengths]), axis=1, return_inverse=True)[1].reshape(-1)


def _enough(log_arrangements: float, what: str) -> None:
    if log_arrangements < np.log(MINIMUM_ARRANGEMENTS) - 1e-9:
        raise UserError(
            f"too few {what}: {round(np.exp(log_arrangements))} distinct rearrangement(s), "
            f"at least {MINIMUM_ARRANGEMENTS} needed for any p-value of .05"
        )
