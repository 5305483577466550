"""Intervals: known values, and the coverage they promise, by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binom, binomtest, bootstrap

from policylens.errors import UserError
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import (
    bootstrap_ratio,
    bootstrap_sums,
    cluster_bootstrap,
    paired_difference,
    student,
    wilson,
)
from policylens.statistics.resampling import Resampling

QUICK = Resampling(seed=0, n_resamples=400)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998(successes, n, low, high):
    estimate = wilson(successes, n)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)
    assert estimate.value == successes / n
    assert (estimate.n_clusters, estimate.level, estimate.unit) == (n, 0.95, "episode")


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy_and_contains_the_rate(counts, level):
    successes, n = counts
    estimate = wilson(successes, n, level)
    reference = binomtest(successes, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose((estimate.low, estimate.high), reference, atol=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_wilson_covers_a_rate_as_often_as_it_says():
    n = 60
    estimate = wilson(np.arange(n + 1), n)
    rates = np.linspace(0.05, 0.95, 181)
    covered = [binom.pmf(np.arange(n + 1), n, p)[(estimate.low <= p) & (p <= estimate.high)].sum() for p in rates]
    assert 0.945 < np.mean(covered) < 0.96
    assert min(covered) > 0.90


def clustered_data(datasets: int, clusters: int = 30, rows: int = 20):
    """Rows with intraclass correlation 1/2 and mean 0: (n, datasets) and the cluster of each row."""
    rng = np.random.default_rng(11)
    shared = np.repeat(rng.standard_normal((clusters, datasets)), rows, axis=0)
    own = rng.standard_normal((clusters * rows, datasets))
    return shared + own, np.repeat(np.arange(clusters), rows)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_resampling_episodes_covers_where_resampling_rows_does_not(method):
    values, clusters = clustered_data(datasets=1000)

    def coverage(units):
        estimate = cluster_bootstrap(values, units, Resampling(seed=5, n_resamples=1500, method=method))
        return np.mean((estimate.low <= 0) & (estimate.high >= 0))

    assert 0.93 < coverage(clusters) < 0.97
    assert coverage(np.arange(len(clusters))) < 0.6


def test_few_clusters_of_unequal_length_are_still_covered():
    rng = np.random.default_rng(3)
    lengths = rng.integers(10, 60, 15)[:, None]
    sums = rng.normal(size=(15, 2000)) * lengths + rng.normal(size=(15, 2000)) * np.sqrt(lengths)
    estimate = bootstrap_ratio(sums, lengths, Resampling(seed=5, n_resamples=1500))
    assert 0.92 < np.mean((estimate.low <= 0) & (estimate.high >= 0)) < 0.98


def test_bca_tails_are_more_even_than_percentile_tails_on_skewed_clusters():
    rng = np.random.default_rng(8)
    counts = rng.poisson(rng.gamma(1.0, 4.0, (40, 1500))).astype(float)

    def missed_below(method):
        resampling = Resampling(seed=2, n_resamples=1500, method=method)
        estimate = bootstrap_ratio(counts, np.ones(40), resampling)
        return np.mean(estimate.low > 4), np.mean(estimate.high < 4)

    unevenness = {method: abs(np.subtract(*missed_below(method))) for method in ("bca", "percentile")}
    assert unevenness["bca"] < 0.75 * unevenness["percentile"]


def test_bca_agrees_with_scipy_on_many_clusters():
    rng = np.random.default_rng(4)
    values = rng.exponential(size=400)
    ours = cluster_bootstrap(values, np.arange(400), Resampling(seed=1, n_resamples=20_000))
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(2), method="BCa")
    ends = theirs.confidence_interval
    np.testing.assert_allclose((ours.low, ours.high), (ends.low, ends.high), atol=0.006)


def test_bca_corrects_the_bias_of_the_plug_in_variance_as_scipy_does():
    values = np.random.default_rng(4).exponential(size=200)
    resampling = Resampling(seed=1, n_resamples=20_000)
    ours = bootstrap_sums((values, values**2, np.ones(200)), lambda x, xx, n: xx / n - (x / n) ** 2, resampling)
    theirs = bootstrap((values,), np.var, n_resamples=20_000, rng=np.random.default_rng(2), method="BCa")
    ends = theirs.confidence_interval
    np.testing.assert_allclose((ours.low, ours.high), (ends.low, ends.high), rtol=0.025)


def ragged(seed: int = 0):
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 9, 12)))
    return rng.normal(size=len(clusters)), clusters


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_a_function_of_rows_gives_what_the_matrix_product_gives(method):
    values, clusters = ragged()
    resampling = Resampling(seed=9, n_resamples=500, method=method)
    fast = cluster_bootstrap(values, clusters, resampling)
    slow = cluster_bootstrap(values, clusters, resampling, statistic=np.mean)
    rows = cluster_bootstrap(np.arange(len(values)), clusters, resampling, lambda r: values[r].mean())
    for other in (slow, rows):
        np.testing.assert_allclose((fast.value, fast.low, fast.high), (other.value, other.low, other.high))
    assert fast.value == pytest.approx(values.mean())
    assert (fast.n_rows, fast.n_clusters) == (len(values), 12)


def test_functions_of_sums_cover_explained_variance():
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(20), 5)
    signal = rng.normal(size=100)
    error = signal - 0.7 * signal - 0.1 * rng.normal(size=100)
    grouped = Clusters.of(clusters)
    terms = [grouped.sums(error**2), grouped.sums(signal**2)]
    fast = bootstrap_sums(terms, lambda residual, total: 1 - residual / total, QUICK, n_rows=100)
    slow = cluster_bootstrap(
        np.stack([error, signal], 1), clusters, QUICK, lambda rows: 1 - np.divide(*(rows**2).sum(axis=0))
    )
    np.testing.assert_allclose((fast.value, fast.low, fast.high), (slow.value, slow.low, slow.high))
    assert fast.n_rows == 100


def test_blocks_of_columns_and_resamples_change_nothing(monkeypatch):
    values, clusters = np.random.default_rng(1).normal(size=(60, 7)), np.repeat(np.arange(12), 5)
    whole = cluster_bootstrap(values, clusters, QUICK)
    monkeypatch.setattr("policylens.statistics.intervals._REPLICATES_IN_MEMORY", 800)
    monkeypatch.setattr("policylens.statistics.resampling._ENTRIES_IN_MEMORY", 60)
    pieces = cluster_bootstrap(values, clusters, QUICK)
    np.testing.assert_allclose(pieces.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(pieces.high, whole.high, rtol=1e-12)


def test_means_of_rows_and_means_of_clusters_differ_where_lengths_do():
    values, clusters = np.array([1.0, 1.0, 1.0, 5.0]), np.array([0, 0, 0, 1])
    assert cluster_bootstrap(values, clusters, QUICK).value == 2.0
    assert cluster_bootstrap(values, clusters, QUICK, "mean of cluster means").value == 3.0


def test_pairing_cancels_what_both_sides_share():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(25), 4)
    shared = 10 * np.repeat(rng.normal(size=25), 4)
    first, second = shared + 0.5 + 0.1 * rng.normal(size=100), shared + 0.1 * rng.normal(size=100)
    paired = paired_difference(first, second, clusters, QUICK)
    alone = cluster_bootstrap(first, clusters, QUICK)
    assert 0.4 < paired.low < 0.5 < paired.high < 0.6
    assert paired.high - paired.low < 0.02 * (alone.high - alone.low)


def test_same_seed_same_bytes_other_seed_other_interval():
    values, clusters = ragged()
    first, again = (cluster_bootstrap(values, clusters, QUICK) for _ in range(2))
    other = cluster_bootstrap(values, clusters, Resampling(seed=1, n_resamples=400))
    assert first.record() == again.record()
    assert first.low != other.low


def test_a_statistic_that_no_cluster_changes_has_an_interval_of_width_zero():
    estimate = cluster_bootstrap(np.full(30, 0.3), np.repeat(np.arange(6), 5), QUICK)
    np.testing.assert_allclose((estimate.low, estimate.high), 0.3)


def test_a_ratio_carried_by_few_clusters_has_no_interval():
    carried = np.zeros((30, 2))
    carried[0, 0] = 4
    carried[:, 1] = 4
    with pytest.raises(UserError, match="column 0"):
        bootstrap_ratio(carried / 2, carried, QUICK)
    estimate = bootstrap_ratio(carried / 2, carried, QUICK, undefined="nan")
    assert np.isnan(estimate.low).tolist() == [True, False]
    assert estimate[0].record()["low"] is None
    assert estimate[1].value == 0.5


def test_an_estimate_says_what_it_rests_on():
    estimate = Estimate(0.53, 0.42, 0.64, 0.95, 4000, 120, "episode")
    assert str(estimate) == "0.53 [0.42, 0.64] (95%, 120 episodes, 4000 rows)"
    assert estimate.record()["n_clusters"] == 120


VALUES, CLUSTERS = np.ones(4), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2), "from 0 to n = 2"),
        (lambda: wilson(0.5, 2), "whole numbers"),
        (lambda: wilson(0, 0), "at least 1"),
        (lambda: wilson(0, 5, level=95), "level"),
        (lambda: cluster_bootstrap(np.array([]), np.array([], int), QUICK), "at least 2"),
        (lambda: cluster_bootstrap(VALUES, np.zeros(4, int), QUICK), "at least 2 needed .* got 1"),
        (lambda: cluster_bootstrap(VALUES[:3], CLUSTERS, QUICK), "lengths differ"),
        (lambda: cluster_bootstrap(VALUES * np.nan, CLUSTERS, QUICK), "4 of 4 values are NaN"),
        (lambda: cluster_bootstrap(VALUES, CLUSTERS * 1.5, QUICK), "integer or string"),
        (lambda: cluster_bootstrap(VALUES, CLUSTERS, QUICK, "median"), "statistic"),
        (lambda: paired_difference(VALUES, VALUES[:2], CLUSTERS, QUICK), "shapes differ"),
        (lambda: bootstrap_ratio(np.ones((4, 2)), np.ones((4, 3)), QUICK), "columns differ"),
        (lambda: Resampling(seed=0, n_resamples=100), "at least 400"),
        (lambda: Resampling(seed=0, method="normal"), "bca, percentile"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_students_interval_is_that_of_a_mean_of_few():
    values = np.array([[0.8, 1.0], [0.9, 3.0], [0.7, 2.0]])
    found = student(values)
    low, high = stats.t.interval(0.95, 2, values.mean(0), stats.sem(values))
    np.testing.assert_allclose((found.low, found.high), (low, high))
    assert (found.unit, found.n_clusters) == ("seed", 3)
    assert student(values[:, 0]).value == pytest.approx(0.8)
    with pytest.raises(UserError, match="seeds: at least 2"):
        student(values[:1])
