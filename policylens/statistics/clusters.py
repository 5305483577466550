"""Rows grouped by the unit that is independent: the episode, or whatever else an analysis resamples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from policylens.errors import UserError
from policylens.statistics import checks


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows grouped by cluster, in ascending order of cluster id; within a cluster rows keep their order.

    ids: (c,) the clusters.
    order: (n,) rows sorted by cluster, or None when they are sorted already.
    starts, lengths: (c,) int64, where each cluster lies in the sorted rows.
    """

    ids: np.ndarray
    order: np.ndarray | None
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, clusters: np.ndarray) -> Clusters:
        """Group rows. clusters: (n,) integer or string id of each row's cluster; at least two clusters."""
        ids = np.asarray(clusters)
        if ids.ndim != 1 or ids.dtype.kind not in "iubUS":
            raise UserError(f"clusters: expected one integer or string per row, got {ids.dtype} of shape {ids.shape}")
        ordered = bool(np.all(ids[1:] >= ids[:-1]))
        order = None if ordered else np.argsort(ids, kind="stable")
        ids = ids if ordered else ids[order]
        starts = np.flatnonzero(np.concatenate([[len(ids) > 0], ids[1:] != ids[:-1]]))
        if len(starts) < 2:
            raise UserError(f"clusters: at least 2 needed to say how results vary, got {len(starts)}")
        return cls(ids[starts], order, starts, np.diff(np.append(starts, len(ids))))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.lengths.sum())

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.lengths)

    @cached_property
    def cluster_of_row(self) -> np.ndarray:
        """(n,) position in `ids` of each sorted row's cluster."""
        return np.repeat(np.arange(self.n_clusters), self.lengths)

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Rows of `values` (n, ...) in the order of the clusters."""
        checks.same_length(values, range(self.n_rows), "values and clusters")
        return values if self.order is None else values[self.order]

    def unsorted(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`sorted`: rows back in the order in which they came."""
        if self.order is None:
            return values
        back = np.empty_like(values)
        back[self.order] = values
        return back

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` (n,) or (n, k) within each cluster: float64 (c,) or (c, k)."""
        return np.add.reduceat(self.sorted(values), self.starts, axis=0, dtype=np.float64)

    def rows_of(self, picks: np.ndarray) -> np.ndarray:
        """Original row numbers of the picked clusters, one after the other; a cluster may be picked twice."""
        lengths = self.lengths[picks]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1]) + np.repeat(self.starts[picks] - ends + lengths, lengths)
        return places if self.order is None else self.order[places]
