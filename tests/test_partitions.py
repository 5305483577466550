"""Clusterings: silhouettes as defined, the adjusted Rand index as published, k-means that finds what was planted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from policylens.statistics.partitions import adjusted_rand, k_means, silhouettes


def planted(k, each, spread, seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(k), each)
    centres = 10 * np.eye(k, 5)
    return centres[truth] + spread * rng.normal(size=(len(truth), 5)), truth


@pytest.mark.parametrize("k", [2, 3, 5])
def test_planted_clusters_are_found(k):
    points, truth = planted(k, 12, 0.5, k)
    assert adjusted_rand(k_means(points, k, 0), truth) == 1


def test_clusters_are_numbered_by_size():
    points = np.concatenate([planted(2, 3, 0.1, 0)[0], planted(2, 9, 0.1, 1)[0][9:]])
    assert k_means(points, 2, 5).tolist() == [1] * 3 + [0] * 12


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 20), st.integers(2, 4), st.integers(0, 1000))
def test_silhouettes_are_as_defined(n, k, seed):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(n, 3)), rng.integers(0, k, n)
    labels[:2] = 0, 1
    distances = ((points[:, None] - points) ** 2).sum(2)
    for i, found in enumerate(silhouettes(points, labels)):
        mine = (labels == labels[i]) & (np.arange(n) != i)
        if not mine.any():
            assert found == 0
            continue
        a = distances[i, mine].mean()
        b = min(distances[i, labels == c].mean() for c in set(labels) - {labels[i]})
        assert found == pytest.approx((b - a) / max(a, b))


def test_the_adjusted_rand_index_of_a_worked_example():
    # Hubert and Arabie's formula by hand: 2 of 15 pairs are together in both, 6 and 3 in each.
    first, second = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    both, chance = 2, 6 * 3 / 15
    assert adjusted_rand(first, second) == pytest.approx((both - chance) / ((6 + 3) / 2 - chance))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=30), st.permutations(range(4)))
def test_names_of_clusters_do_not_matter(labels, names):
    labels = np.array(labels)
    assert adjusted_rand(labels, np.array(names)[labels]) == pytest.approx(1)


def test_unrelated_clusterings_have_no_index():
    rng = np.random.default_rng(0)
    found = [adjusted_rand(rng.integers(0, 3, 60), rng.integers(0, 3, 60)) for _ in range(300)]
    assert abs(np.mean(found)) < 0.01


def test_more_clusters_than_points_are_refused():
    with refused("points to cluster"):
        k_means(np.zeros((2, 2)), 3, 0)
