"""Confidence intervals whose unit is the cluster: Wilson for rates, the cluster bootstrap for the rest.

Rows of one episode are not independent, so resamples draw whole episodes and never rows. A statistic that is
a function of sums over rows (mean, ratio, explained variance, correlation, precision, recall) needs only each
cluster's sums: thousands of resamples are one matrix product (:func:`bootstrap_sums`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from policylens.errors import UserError
from policylens.statistics import checks
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.resampling import Resampling, interval

_REPLICATES_IN_MEMORY = 1 << 24


def wilson(successes: int | np.ndarray, n: int, level: float = 0.95, unit: str = "episode") -> Estimate:
    """Rate of success over n independent trials, with Wilson's score interval.

    successes: how many of the n succeeded, or an array (k,) of such counts.

    The trials must be independent: episodes or seeds, not rows. Wilson, "Probable inference", JASA 22 (1927);
    the interval never leaves [0, 1].
    """
    checks.open_unit_interval(level, "level")
    checks.count(n, "n trials", 1)
    wins = checks.finite(successes, "successes", (0, 1))
    if np.any(wins < 0) or np.any(wins > n) or np.any(wins != np.floor(wins)):
        raise UserError(f"successes: expected whole numbers from 0 to n = {n}, got {successes}")
    z = float(ndtri((1 + level) / 2))
    rate = wins / n
    center = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # The formula gives exactly 0 and 1 at the ends; rounding does not.
    low = np.where(wins == 0, 0.0, np.maximum(center - half, 0.0))
    high = np.where(wins == n, 1.0, np.minimum(center + half, 1.0))
    return _estimate((rate, low, high), wins.ndim == 0, level, n, n, unit)


def paired_rates(first: np.ndarray, second: np.ndarray, level: float = 0.95, unit: str = "episode") -> Estimate:
    """Difference of two rates of success over the same n independent trials, first less second.

    first, second: (n,) of 0 and 1, trial by trial a pair.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17 (1998), method 10: of Wilson's intervals, with the correlation of the pairs. Unlike a
    bootstrap it is not of width 0 where no pair differs.
    """
    pairs = [checks.finite(values, name, (1,)) for name, values in (("first", first), ("second", second))]
    checks.same_length(*pairs, "first and second")
    if not all(np.isin(values, (0, 1)).all() for values in pairs):
        raise UserError("first and second: expected 0 and 1 alone; take paired_difference for other numbers")
    n = len(pairs[0])
    one, other = (wilson(int(values.sum()), n, level) for values in pairs)
    phi = _correlation_of_pairs(*(values.astype(bool) for values in pairs))
    down, up = one.value - one.low, one.high - one.value
    other_down, other_up = other.value - other.low, other.high - other.value
    difference = one.value - other.value
    low = difference - np.sqrt(max(down**2 - 2 * phi * down * other_up + other_up**2, 0))
    high = difference + np.sqrt(max(up**2 - 2 * phi * up * other_down + other_down**2, 0))
    return Estimate(float(difference), float(low), float(high), level, n, n, unit)


def _correlation_of_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Newcombe's phi of a 2 x 2 table, with his correction for continuity; 0 where a margin is empty."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    margins = (both + only_first, only_second + neither, both + only_second, only_first + neither)
    if 0 in margins:
        return 0.0
    product = both * neither - only_first * only_second
    corrected = max(product - len(first) / 2, 0) if product > 0 else product
    return float(corrected / np.sqrt(np.prod(margins, dtype=np.float64)))


def student(values: np.ndarray, level: float = 0.95, unit: str = "seed") -> Estimate:
    """Mean of n independent numbers with Student's interval, mean +- t_{n-1} s / sqrt(n).

    values: (n,) or (n, k), one row per unit. For a handful of units (training seeds), which a bootstrap could only
    give the range of; assumes that they are about normal.
    """
    checks.open_unit_interval(level, "level")
    values = checks.finite(values, "values", (1, 2))
    checks.count(len(values), f"{unit}s", 2)
    mean, n = values.mean(axis=0), len(values)
    half = -stdtrit(n - 1, (1 - level) / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return _estimate((mean, mean - half, mean + half), values.ndim == 1, level, n, n, unit)


def bootstrap_sums(
    terms: Sequence[np.ndarray],
    combine: Callable[..., np.ndarray],
    resampling: Resampling,
    *,
    n_rows: int | None = None,
    undefined: str = "raise",
) -> Estimate:
    """Bootstrap a statistic that is a function of sums over clusters.

    terms: per-cluster sums, each (c,) or (c, k): one quantity or k.
    combine: takes the terms summed over a resample, each (b, k) or (b, 1), and returns (b, k), column by
        column, e.g. `lambda error, total: 1 - error / total`.
    n_rows: rows behind the sums, for the record (default: the number of clusters).
    undefined: when the statistic is not finite in some resample (a ratio none of whose carriers was drawn):
        "raise" refuses, "nan" gives that column a NaN interval. This happens to quantities carried by fewer
        than about ten clusters, which support no interval.

    Columns are worked through in blocks, and resamples too: memory stays bounded.
    """
    if undefined not in ("raise", "nan"):
        raise UserError(f"undefined: expected 'raise' or 'nan', got {undefined!r}")
    columns, single = _columns(terms)
    n_clusters = len(columns[0])
    width = max(term.shape[1] for term in columns)
    block = max(1, _REPLICATES_IN_MEMORY // resampling.n_resamples)
    parts = [
        _sums_interval([_block(term, start, block) for term in columns], combine, resampling)
        for start in range(0, width, block)
    ]
    value, low, high = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    if undefined == "raise" and np.isnan(low).any():
        raise UserError(
            f"the statistic is undefined in some resamples of {n_clusters} {resampling.unit}s (column "
            f"{int(np.isnan(low).argmax())}): too few of them carry it for an interval"
        )
    rows = n_clusters if n_rows is None else n_rows
    return _estimate((value, low, high), single, resampling.level, rows, n_clusters, resampling.unit)


def bootstrap_ratio(
    numerators: np.ndarray,
    denominators: np.ndarray,
    resampling: Resampling,
    *,
    n_rows: int | None = None,
    undefined: str = "raise",
) -> Estimate:
    """Ratio of two sums over clusters, e.g. rows where a latent fires over all rows.

    numerators, denominators: per-cluster sums, (c,) or (c, k).
    n_rows, undefined: as in :func:`bootstrap_sums`.
    """
    return bootstrap_sums((numerators, denominators), np.divide, resampling, n_rows=n_rows, undefined=undefined)


def bootstrap_mean_ratio(
    numerators: np.ndarray, denominators: np.ndarray, resampling: Resampling, *, n_rows: int | None = None
) -> Estimate:
    """Mean over k quantities of the ratio of two sums over clusters, e.g. of an accuracy over many labels.

    numerators, denominators: per-cluster sums, (c, k). A quantity that no cluster of a resample carries is left out
    of that resample's mean. n_rows: as in :func:`bootstrap_sums`.
    """
    (tops, bottoms), _ = _columns((numerators, denominators))
    totals, carriers = tops.sum(axis=0), bottoms.sum(axis=0)
    replicates = [_mean_ratio(w @ tops, w @ bottoms) for w in resampling.weights(len(tops))]
    value = _mean_ratio(totals, carriers)[None]
    ends = _defined_interval(
        value,
        np.concatenate(replicates)[:, None],
        len(tops),
        resampling,
        lambda: _mean_ratio(totals - tops, carriers - bottoms)[:, None],
    )
    rows = len(tops) if n_rows is None else n_rows
    return _estimate(ends, True, resampling.level, rows, len(tops), resampling.unit)


def _mean_ratio(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Mean over the last axis of tops / bottoms where bottoms is not 0; NaN where it is 0 throughout."""
    carried = bottoms != 0
    ratios = np.divide(tops, bottoms, out=np.zeros_like(tops), where=carried)
    with np.errstate(invalid="ignore"):
        return np.asarray(ratios.sum(axis=-1) / carried.sum(axis=-1))


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    resampling: Resampling,
    statistic: str | Callable[[np.ndarray], float | np.ndarray] = "mean",
) -> Estimate:
    """Estimate a statistic of rows, resampling whole clusters.

    values: (n,) or (n, k), one row each.
    clusters: (n,) id of each row's cluster.
    statistic: "mean" (over rows: long clusters count more), "mean of cluster means" (every cluster counts
        once), or a function of the resampled rows (m, ...) that returns a number or (k,). A function of
        several arrays takes row numbers: pass `np.arange(n)` as values. "mean" and its like cost one matrix
        product; a function is called n_resamples times, and c times more for BCa.
    """
    grouped = Clusters.of(clusters)
    if callable(statistic):
        return _bootstrap_function(np.asarray(values), grouped, resampling, statistic)
    values = checks.finite(values, "values", (1, 2))
    checks.same_length(values, np.asarray(clusters), "values and clusters")
    lengths = grouped.lengths.astype(np.float64)
    sums = grouped.sums(values)
    if statistic == "mean":
        return bootstrap_ratio(sums, lengths, resampling, n_rows=grouped.n_rows)
    if statistic == "mean of cluster means":
        means = (sums.T / lengths).T
        return bootstrap_ratio(means, np.ones_like(lengths), resampling, n_rows=grouped.n_rows)
    raise UserError(f"statistic: expected 'mean', 'mean of cluster means' or a function, got {statistic!r}")


def paired_difference(first: np.ndarray, second: np.ndarray, clusters: np.ndarray, resampling: Resampling) -> Estimate:
    """Mean of first - second over rows that belong together: same initial state, same randomness.

    first, second: (n,) or (n, k), row by row a pair.
    clusters: (n,) id of each pair's cluster.

    A resample keeps pairs whole, so that what both sides share cancels.
    """
    first = checks.finite(first, "first", (1, 2))
    second = checks.finite(second, "second", (1, 2))
    if first.shape != second.shape:
        raise UserError(f"first and second: shapes differ, {first.shape} and {second.shape}")
    return cluster_bootstrap(first - second, clusters, resampling)


def _sums_interval(
    terms: list[np.ndarray], combine: Callable[..., np.ndarray], resampling: Resampling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value and interval (k,) of one block of columns; NaN bounds where some resample is undefined."""
    totals = [term.sum(axis=0, keepdims=True) for term in terms]

    def statistic(sums: list[np.ndarray]) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(combine(*sums), dtype=np.float64)

    value = statistic(totals)[0]
    replicates = np.concatenate([statistic([w @ term for term in terms]) for w in resampling.weights(len(terms[0]))])
    return _defined_interval(
        value,
        replicates,
        len(terms[0]),
        resampling,
        lambda: statistic([total - term for total, term in zip(totals, terms, strict=True)]),
    )


def _bootstrap_function(
    values: np.ndarray,
    grouped: Clusters,
    resampling: Resampling,
    statistic: Callable[[np.ndarray], float | np.ndarray],
) -> Estimate:
    checks.finite(values, "values", tuple(range(1, 9)))
    checks.same_length(values, range(grouped.n_rows), "values and clusters")

    def of_clusters(picks: np.ndarray) -> np.ndarray:
        return np.asarray(statistic(values[grouped.rows_of(picks)]), dtype=np.float64)

    everything = np.arange(grouped.n_clusters)
    value = np.asarray(statistic(values), dtype=np.float64)
    draws = (picks for block in resampling.picks(grouped.n_clusters) for picks in block)
    replicates = np.stack([of_clusters(picks).reshape(-1) for picks in draws])
    ends = _defined_interval(
        value.reshape(-1),
        replicates,
        grouped.n_clusters,
        resampling,
        lambda: np.stack([of_clusters(np.delete(everything, c)).reshape(-1) for c in everything]),
    )
    if np.isnan(ends[1]).any():
        raise UserError(f"the statistic is not finite in some resamples of {grouped.n_clusters} clusters")
    shape = (grouped.n_rows, grouped.n_clusters, resampling.unit)
    return _estimate(ends, value.ndim == 0, resampling.level, *shape)


def _defined_interval(
    value: np.ndarray,
    replicates: np.ndarray,
    n_clusters: int,
    resampling: Resampling,
    jackknife: Callable[[], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    defined = np.isfinite(value) & np.isfinite(replicates).all(axis=0)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    if defined.any():
        low[defined], high[defined] = interval(
            replicates[:, defined], value[defined], n_clusters, resampling, lambda: jackknife()[:, defined]
        )
    return np.where(np.isfinite(value), value, np.nan), low, high


def _columns(terms: Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """Terms as (c, k) or (c, 1), and whether there is a single quantity."""
    if not terms:
        raise UserError("terms: no per-cluster sums given")
    arrays = [checks.finite(term, "per-cluster sums", (1, 2)) for term in terms]
    for array in arrays[1:]:
        checks.same_length(arrays[0], array, "per-cluster sums")
    if len(arrays[0]) < 2:
        raise UserError("per-cluster sums: at least 2 clusters needed to say how results vary, got 1")
    columns = [array[:, None] if array.ndim == 1 else array for array in arrays]
    widths = {column.shape[1] for column in columns} - {1}
    if len(widths) > 1:
        raise UserError(f"per-cluster sums: numbers of columns differ, {sorted(widths)}")
    return columns, all(array.ndim == 1 for array in arrays)


def _block(term: np.ndarray, start: int, size: int) -> np.ndarray:
    return term if term.shape[1] == 1 else term[:, start : start + size]


def _estimate(
    ends: tuple[np.ndarray, ...], single: bool, level: float, n_rows: int, n_clusters: int, unit: str
) -> Estimate:
    value, low, high = (float(np.reshape(end, -1)[0]) if single else np.asarray(end) for end in ends)
    return Estimate(value, low, high, level, int(n_rows), int(n_clusters), unit)
