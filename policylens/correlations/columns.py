"""Columns made ready to be correlated, dense or sparse, by their values or by their ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from policylens.statistics.auc import midranks

Values = np.ndarray | scipy.sparse.csc_array
RANKED_AT_ONCE = 1 << 22
"""Numbers of a dense block whose columns are ranked."""


@dataclass(frozen=True)
class Columns:
    """m columns over n rows, each divided by the root of its sum of squared deviations from its mean.

    weights: (m, n), column by column, not centred: sparse columns stay sparse. means: (m,) of the weights' columns. A
    constant column is 0 throughout, so that its correlations are 0.
    """

    weights: np.ndarray | scipy.sparse.csr_array
    means: np.ndarray

    def correlations(self, inputs: np.ndarray) -> np.ndarray:
        """Pearson's r of standardised inputs (n, k) with all columns: (k, m), within -1 and 1."""
        found = (self.weights @ inputs).T - np.outer(inputs.sum(0), self.means)
        return np.clip(found, -1, 1)


def standardised(values: np.ndarray) -> np.ndarray:
    """Dense (n, k) centred and of norm 1 per column, float64; a constant column becomes 0.

    Two passes (the mean first): no cancellation. Divided by the largest deviation before squaring: no overflow.
    """
    values = np.asarray(values, np.float64)
    varies = values.max(0) > values.min(0)
    centred = np.where(varies, values - values.mean(0), 0)
    centred /= np.where(varies, np.abs(centred).max(0), 1)
    norms = np.sqrt(np.square(centred).sum(0))
    return centred / np.where(varies, norms, 1)


def columns_of(values: Values) -> Columns:
    """Dense or sparse (n, m) as `Columns`. Sparse columns cost what their entries cost."""
    if not scipy.sparse.issparse(values):
        found = standardised(values)
        return Columns(np.ascontiguousarray(found.T), np.zeros(found.shape[1]))
    sparse = scipy.sparse.csc_array(values, dtype=np.float64, copy=True)
    n, entries = sparse.shape[0], np.diff(sparse.indptr)
    largest, smallest = (end.toarray().ravel() for end in (sparse.max(0), sparse.min(0)))
    varies = largest > smallest
    of_entry = np.repeat(np.arange(len(entries)), entries)
    sparse.data /= np.where(varies, np.maximum(largest, -smallest), 1)[of_entry]
    means = np.asarray(sparse.sum(0)).ravel() / n
    squares = np.bincount(of_entry, np.square(sparse.data - means[of_entry]), len(entries))
    norms = np.where(varies, np.sqrt(squares + (n - entries) * means**2), 1)
    sparse.data *= (varies / norms)[of_entry]
    return Columns(scipy.sparse.csr_array(sparse.T), varies * means / norms)


def ranked(values: Values) -> Values:
    """Each column's ranks, ties sharing their mean, up to a constant per column: what Spearman's r is Pearson's r of.

    Of sparse columns all ranks are counted from that of the zeros, which therefore stay 0.
    """
    if not scipy.sparse.issparse(values):
        return midranks(np.asarray(values))
    found = scipy.sparse.csc_array(values, dtype=np.float64, copy=True)
    found.eliminate_zeros()
    found.sort_indices()
    step = max(1, RANKED_AT_ONCE // found.shape[0])
    for start in range(0, found.shape[1], step):
        dense = found[:, start : start + step].toarray()
        ranks = midranks(dense)
        zero = dense == 0
        ranks -= np.where(zero.any(0), ranks[zero.argmax(0), np.arange(ranks.shape[1])], 0)
        ends = found.indptr[start], found.indptr[start + dense.shape[1]]
        found.data[slice(*ends)] = ranks.T[~zero.T]
    return found
