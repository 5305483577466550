"""Nulls over episodes: exact against plain loops, and false positives at the rate they promise."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from policylens.errors import UserError
from policylens.statistics.associations import association_null
from policylens.statistics.clusters import Clusters
from policylens.statistics.exchanges import CircularShifts, ClusterPermutations
from policylens.statistics.nulls import circular_shift_test, p_values, permutation_test


def autocorrelated(rng, episodes: int, steps: int, columns: int, memory: float = 0.9) -> np.ndarray:
    """Stationary first-order autoregressions of variance 1: (episodes * steps, columns)."""
    noise = rng.standard_normal((steps, episodes, columns)) * np.sqrt(1 - memory**2)
    series = rng.standard_normal((episodes, columns))
    out = np.empty((steps, episodes, columns))
    for step in range(steps):
        series = memory * series + noise[step]
        out[step] = series
    return out.transpose(1, 0, 2).reshape(episodes * steps, columns)


def correlation(features):
    return lambda label: np.array([np.corrcoef(column, label)[0, 1] for column in features.T])


def auc(features):
    def statistic(label):
        pairs = (label == 1).sum() * (label == 0).sum()
        return np.array([mannwhitneyu(c[label == 1], c[label == 0]).statistic / pairs for c in features.T])

    return statistic


def small_case(kind: str):
    """Shuffled rows of 9 episodes: features with ties, a binary label, clusters."""
    rng = np.random.default_rng(3)
    lengths = {"unequal": rng.integers(3, 9, 9), "equal": np.full(9, 6)}[kind]
    clusters = np.repeat(np.arange(9), lengths)
    order = rng.permutation(len(clusters))
    features = rng.integers(0, 6, (len(clusters), 5)).astype(np.float32)
    return features, rng.integers(0, 2, len(clusters)), clusters[order], rng


@pytest.mark.parametrize(("measure", "statistic"), [("pearson", correlation), ("auc", auc)])
@pytest.mark.parametrize(
    ("scheme", "kind", "constant"),
    [
        ("circular", "unequal", False),
        ("circular", "equal", False),
        ("permute", "equal", False),
        ("permute", "unequal", True),
    ],
)
def test_the_fast_route_equals_the_loop(measure, statistic, scheme, kind, constant, monkeypatch):
    features, label, clusters, rng = small_case(kind)
    if constant:
        label = rng.permutation([0, 0, 0, 0, 1, 1, 1, 1, 1])[clusters]
    test = {"circular": circular_shift_test, "permute": permutation_test}[scheme]
    slow = test(label, clusters, statistic(features), seed=4, n_permutations=25)
    monkeypatch.setattr("policylens.statistics.associations._ENTRIES_IN_MEMORY", 2 * len(label))
    fast = association_null(features, label, clusters, measure=measure, scheme=scheme, seed=4, n_permutations=25)
    np.testing.assert_allclose(fast.observed, slow.observed, atol=1e-12)
    np.testing.assert_allclose(fast.null, slow.null, atol=1e-12)
    assert np.std(fast.null, axis=0).min() > 0.01
    np.testing.assert_array_equal(fast.p_values(), slow.p_values())


@pytest.mark.parametrize("scheme", ["circular", "permute"])
def test_rounding_makes_no_constant_feature_significant(scheme):
    _, label, clusters, rng = small_case("equal")
    features = np.full((len(label), 3), 0.1)
    for measure, labels, center in (("pearson", rng.normal(size=len(label)), 0.0), ("auc", label, 0.5)):
        result = association_null(features, labels, clusters, measure=measure, scheme=scheme, seed=0)
        np.testing.assert_allclose(result.observed, center)
        np.testing.assert_array_equal(result.p_values(), 1.0)


def test_rounding_makes_no_shift_significant_where_shifts_change_nothing():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), 7)
    label = np.tile([1, 1, 0, 0, 1, 0, 0], 12)
    features = np.repeat(rng.normal(size=(12, 40)), 7, axis=0)
    result = association_null(features, label, clusters, measure="pearson", scheme="circular", seed=0)
    np.testing.assert_array_equal(result.p_values(), 1.0)


def test_shifts_turn_every_episode_in_itself():
    clusters = np.repeat([0, 1], [4, 5])
    draws = CircularShifts(Clusters.of(clusters), 200, seed=0)
    seen = {tuple(draws.rows(i).tolist()) for i in range(200)}
    assert len(seen) == 4 * 5
    for rows in seen:
        assert {*(np.diff(rows[:4]) % 4), *(np.diff(rows[4:]) % 5)} == {1}


def test_sequences_move_whole_between_clusters_of_equal_length_and_block():
    lengths = np.array([2, 3, 2, 3, 2, 3, 2, 3, 2, 3])
    grouped = Clusters.of(np.repeat(np.arange(10), lengths))
    blocks = np.repeat([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], lengths)
    donors = ClusterPermutations(grouped, constant=False, n=300, seed=1, blocks=blocks).donors
    pool = np.array([0, 1, 0, 1, 0, 1, 2, 3, 2, 3])
    assert np.all(pool[donors] == pool)
    assert np.all(np.sort(donors, axis=1) == np.arange(10))
    assert len({tuple(row) for row in donors.tolist()}) > 100
    without = ClusterPermutations(grouped, constant=False, n=300, seed=1).donors
    assert np.any(pool[without] != pool)


def test_p_values_count_ties_and_are_never_zero():
    null = np.arange(10.0)
    assert p_values(100.0, null, "greater") == 1 / 11
    assert p_values(7.0, null, "greater") == 4 / 11
    assert p_values(7.0, null, "less") == 9 / 11
    assert p_values(7.0 + 1e-13, null, "two-sided") == 8 / 11
    np.testing.assert_array_equal(p_values(np.array([0.0, 4.5]), np.stack([null, null], 1)), [4 / 11, 1.0])


def test_excess_takes_the_mean_of_the_null_off():
    features, label, clusters, _ = small_case("equal")
    result = permutation_test(label, clusters, auc(features), seed=0, n_permutations=50)
    np.testing.assert_allclose(result.excess, result.observed - result.null.mean(axis=0))


@pytest.mark.parametrize("scheme", ["circular", "permute"])
def test_false_positives_on_autocorrelated_episodes(scheme):
    rng = np.random.default_rng(21)
    clusters = np.repeat(np.arange(25), 60)
    features = autocorrelated(rng, 25, 60, 400)
    label = autocorrelated(rng, 25, 60, 1)[:, 0]

    def rate(units, how):
        null = association_null(features, label, units, measure="pearson", scheme=how, seed=7, n_permutations=199)
        return np.mean(null.p_values() <= 0.05)

    assert 0.02 < rate(clusters, scheme) < 0.09
    assert rate(np.arange(len(label)), "permute") > 0.4


def test_episode_labels_are_exchanged_between_episodes_of_any_length():
    rng = np.random.default_rng(5)
    lengths = rng.integers(10, 60, 30)
    clusters = np.repeat(np.arange(30), lengths)
    features = np.repeat(rng.normal(size=(30, 400)), lengths, axis=0) + rng.normal(size=(len(clusters), 400))
    label = np.repeat(rng.permutation(np.arange(30) % 2), lengths)

    def rate(units):
        null = association_null(features, label, units, measure="auc", scheme="permute", seed=1, n_permutations=199)
        return np.mean(null.p_values() <= 0.05)

    assert 0.02 < rate(clusters) < 0.09
    assert rate(np.arange(len(label))) > 0.4


@pytest.mark.parametrize("scheme", ["circular", "permute"])
def test_a_true_association_is_found(scheme):
    rng = np.random.default_rng(9)
    clusters = np.repeat(np.arange(25), 60)
    label = autocorrelated(rng, 25, 60, 1)
    features = label + autocorrelated(rng, 25, 60, 20)
    result = association_null(features, label[:, 0], clusters, measure="pearson", scheme=scheme, seed=0)
    np.testing.assert_allclose(result.p_values("greater"), 1 / 1001)


FEATURES, LABEL, CLUSTERS = np.eye(8), np.arange(8) % 2, np.repeat(np.arange(4), 2)


def call(features=FEATURES, label=LABEL, clusters=CLUSTERS, **changes):
    options = {"measure": "pearson", "scheme": "permute", "seed": 0, "n_permutations": 20}
    return lambda: association_null(features, label, clusters, **{**options, **changes})


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (call(label=np.zeros(8)), "same value"),
        (call(label=np.arange(8), measure="auc"), "0 and 1"),
        (call(measure="spearman"), "pearson, auc"),
        (call(scheme="rows"), "permute, circular"),
        (call(features=np.full((8, 8), np.inf)), "NaN or infinite"),
        (call(features=FEATURES[:7]), "lengths differ"),
        (call(clusters=np.zeros(8, int)), "at least 2"),
        (call(clusters=np.array([0, 0, 0, 1, 1, 2, 2, 2])), "2 distinct rearrangement"),
        (call(scheme="circular"), "16 distinct rearrangement"),
        (call(n_permutations=10), "at least 19"),
        (call(blocks=np.arange(8)), "same for all rows of a cluster"),
        (call(scheme="circular", blocks=CLUSTERS), "take none"),
        (lambda: p_values(0.0, np.array([])), "empty"),
        (lambda: p_values(np.zeros(2), np.zeros((5, 3))), "lengths differ"),
        (lambda: p_values(0.0, np.zeros(5), "both"), "two-sided, greater, less"),
        (lambda: permutation_test(LABEL, CLUSTERS, lambda label: np.nan, seed=0), "statistic: 1 of 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()
