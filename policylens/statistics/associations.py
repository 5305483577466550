"""Pearson correlation or AUC of many features with one label, and their null over episodes, fast.

Both measures are `offset + sum(x * y) / norm` with x the centred feature (its values, or its ranks) and y the
label. Rearranging labels changes only the sum (and, for clusters of unequal size, a norm that all features
share), so: circular shifts of all lengths come from one Fourier transform per cluster, exchanges of constant
labels from per-cluster sums, exchanges of sequences from one matrix product.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from policylens.errors import UserError
from policylens.statistics import checks
from policylens.statistics.auc import midranks
from policylens.statistics.clusters import Clusters
from policylens.statistics.exchanges import CircularShifts, ClusterPermutations, draws_of
from policylens.statistics.nulls import NullDistribution

MEASURES = ("pearson", "auc")

_ENTRIES_IN_MEMORY = 1 << 24
_DECIMALS = 12


def association_null(
    features: np.ndarray,
    label: np.ndarray,
    clusters: np.ndarray,
    *,
    measure: str,
    scheme: str,
    seed: int,
    n_permutations: int = 1000,
    blocks: np.ndarray | None = None,
) -> NullDistribution:
    """Association of every feature with the label, and its distribution under rearranged labels.

    features: (n, k) of any float type; worked through in blocks of columns.
    label: (n,), for "auc" of 0 and 1.
    clusters: (n,) id of each row's cluster; for "circular", rows of a cluster in time order.
    measure: "pearson" (a constant feature has 0), or "auc": probability that a positive row exceeds a
        negative one, ties counted half (a constant feature has 0.5).
    scheme: "permute" or "circular".
    blocks: for "permute", see :func:`~policylens.statistics.nulls.permutation_test`.

    Returns observed (k,) and null (n_permutations, k).
    """
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] == 0:
        raise UserError(f"features: expected (rows, features), got shape {features.shape}")
    checks.same_length(features, np.asarray(label), "features and label")
    checks.same_length(features, np.asarray(clusters), "features and clusters")
    grouped = Clusters.of(clusters)
    values = grouped.sorted(_checked_label(label, measure))
    draws = draws_of(scheme, values, grouped, n_permutations, seed, blocks)
    block = max(1, _ENTRIES_IN_MEMORY // len(features))
    parts = [
        _block_association(grouped.sorted(features[:, start : start + block]), values, draws, measure)
        for start in range(0, features.shape[1], block)
    ]
    observed, null = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return NullDistribution(observed, null, scheme, grouped.n_rows, grouped.n_clusters)


def _block_association(
    features: np.ndarray, label: np.ndarray, draws: CircularShifts | ClusterPermutations, measure: str
) -> tuple[np.ndarray, np.ndarray]:
    """Observed (k,) and null (draws, k) of one block of columns; rows sorted by cluster."""
    columns, scale = _centred(checks.finite(features, "features", (2,)), measure)
    norm, norms = _norms(label, draws, measure)
    offset = 0.5 if measure == "auc" else 0.0
    null = _rearranged_sums(columns, label, draws)
    null /= norms[:, None] * scale
    null += offset
    # Where no rearrangement changes anything (a constant feature; a feature and label counts constant per episode),
    # observed and null would differ by rounding alone, and rank by it.
    observed = offset + label @ columns / (norm * scale)
    return np.round(observed, _DECIMALS), np.round(null, _DECIMALS, out=null)


def _checked_label(label: np.ndarray, measure: str) -> np.ndarray:
    if measure not in MEASURES:
        raise UserError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    values = checks.finite(label, "label")
    if np.all(values == values[0]):
        raise UserError(f"label: all {len(values)} rows have the same value {values[0]:g}")
    if measure == "auc" and not np.all((values == 0) | (values == 1)):
        raise UserError("label: AUC needs a label of 0 and 1")
    return values - values.mean() if measure == "pearson" else values


def _centred(features: np.ndarray, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Centred values or midranks (n, k), and the norm that belongs to each feature (k,)."""
    if measure == "auc":
        return midranks(features) - (len(features) + 1) / 2, np.ones(features.shape[1])
    columns = features - features.mean(axis=0)
    scale = np.sqrt((columns**2).sum(axis=0))
    return columns, np.where(scale > 0, scale, 1.0)


def _norms(label: np.ndarray, draws: CircularShifts | ClusterPermutations, measure: str) -> tuple[float, np.ndarray]:
    """The label's part of the norm: as observed, and (draws,) as rearranged."""
    n = len(label)

    def norm(total: np.ndarray, squares: np.ndarray) -> np.ndarray:
        return total * (n - total) if measure == "auc" else np.sqrt(squares - total**2 / n)

    observed = float(norm(label.sum(), (label**2).sum()))
    if isinstance(draws, CircularShifts) or not draws.constant:
        return observed, np.full(len(draws), observed)
    moved = label[draws.grouped.starts][draws.donors]
    lengths = draws.grouped.lengths.astype(np.float64)
    return observed, norm(moved @ lengths, moved**2 @ lengths)


def _rearranged_sums(columns: np.ndarray, label: np.ndarray, draws: CircularShifts | ClusterPermutations) -> np.ndarray:
    """Sum over rows of feature times rearranged label: (draws, k)."""
    if isinstance(draws, CircularShifts):
        return _shifted_sums(columns, label, draws)
    if draws.constant:
        sums = np.add.reduceat(columns, draws.grouped.starts, axis=0)
        return label[draws.grouped.starts][draws.donors] @ sums
    result = np.empty((len(draws), columns.shape[1]))
    size = max(1, _ENTRIES_IN_MEMORY // len(label))
    for start in range(0, len(draws), size):
        stop = min(start + size, len(draws))
        result[start:stop] = np.stack([label[draws.rows(i)] for i in range(start, stop)]) @ columns
    return result


def _shifted_sums(columns: np.ndarray, label: np.ndarray, draws: CircularShifts) -> np.ndarray:
    """As above: cross-correlations of every cluster at every shift, then one look-up per cluster and draw."""
    grouped = draws.grouped
    at_shift = np.empty_like(columns)
    for length in np.unique(grouped.lengths):
        starts = grouped.starts[grouped.lengths == length]
        rows = starts[:, None] + np.arange(length)
        spectrum = np.conj(scipy.fft.rfft(columns[rows], axis=1))
        spectrum *= scipy.fft.rfft(label[rows], axis=1)[:, :, None]
        at_shift[rows] = scipy.fft.irfft(spectrum, n=int(length), axis=1)
    return draws.selection @ at_shift
