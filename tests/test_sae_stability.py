"""Partners between dictionaries, and what they say about trainings with other seeds."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_made import directions, made
from support import refused

from policylens.evaluation import comparison, matching
from policylens.evaluation.comparison import compare, other_rows
from policylens.evaluation.joint import JointMoments
from policylens.evaluation.matching import best_assignment, match_directions, mutual, nearest, unit_rows
from policylens.evaluation.siblings import Kin, kin, seed_groups, width_pairs
from policylens.evaluation.stability import RandomDirections, directions_agree, same_partners, similarities_agree


def rotated(angle):
    """The unit vectors of the plane turned by an angle."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)


@given(st.integers(2, 5), st.integers(0, 2**16))
def test_the_assignment_is_the_best_of_all(n, seed):
    similarity = np.random.default_rng(seed).normal(size=(n, n + 1))
    found = best_assignment(similarity)
    best = max(
        sum(similarity[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(n + 1), n)
    )
    assert found.similarity.sum() == pytest.approx(best)
    assert len(set(found.second.tolist())) == n


@given(st.integers(0, 2**16))
@settings(max_examples=20)
def test_a_permuted_and_rescaled_dictionary_is_the_same(seed):
    rng = np.random.default_rng(seed)
    first = directions(12, 8, seed)
    order = rng.permutation(12)
    second = first[order] * rng.uniform(0.1, 9, (12, 1)).astype(np.float32)
    found, partners = directions_agree(first, unit_rows(second))
    assert found["mean_matched"] == pytest.approx(1, abs=1e-6)
    assert found["mean_max"] == pytest.approx(1, abs=1e-6)
    assert found["shares"] == {"0.9": 1.0, "0.8": 1.0, "0.7": 1.0}
    assert (order[partners.second] == partners.first).all()


def test_numbers_worked_out_by_hand():
    # Turned by 30 degrees, both axes have their partner at cos 30.
    found, _ = directions_agree(rotated(0.0), rotated(np.pi / 6))
    assert found["mean_matched"] == pytest.approx(np.cos(np.pi / 6))
    assert found["shares"] == {"0.9": 0.0, "0.8": 1.0, "0.7": 1.0}
    # Against a third direction at 45 degrees between two axes: one partner of three vectors, all at cos 45.
    found, _ = directions_agree(rotated(0.0), unit_rows(np.array([[1.0, 1.0]])))
    assert found["pairs"] == 1
    assert found["mean_max"] == pytest.approx(np.sqrt(0.5))
    assert found["shares"]["0.7"] == pytest.approx(2 / 3)
    assert found["shares"]["0.8"] == 0


def test_nobody_is_two_latents_partner():
    one, twice = unit_rows(np.eye(3)[:2]), unit_rows(np.array([[1, 0, 0], [1, 0.01, 0]]))
    found, _ = directions_agree(one, twice)
    assert found["pairs"] == 2
    assert found["shares"]["0.9"] == 0.5  # both would find the first axis; the second axis has nobody
    assert found["mean_max"] == pytest.approx((1 + 0.01 + 1 + 1) / 4, abs=1e-3)


def test_signs_count():
    found, _ = directions_agree(np.eye(4, dtype=np.float32), -np.eye(4, dtype=np.float32))
    assert found["shares"]["0.7"] == 0


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**16))
@settings(max_examples=30)
def test_nearest_in_blocks_is_nearest(a, b, seed):
    first, second = directions(a, 6, seed), directions(b, 6, seed + 1)
    whole = nearest(first, second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BLOCK_ENTRIES", 3 * b)
        pieces = nearest(first, second)
    cosines = first @ second.T
    np.testing.assert_allclose(whole.of_first, cosines.max(1), rtol=1e-5)
    np.testing.assert_allclose(whole.of_second, cosines.max(0), rtol=1e-5)
    assert (whole.at_first == cosines.argmax(1)).all()
    np.testing.assert_allclose(pieces.of_second, whole.of_second, rtol=1e-5)
    assert (pieces.at_first == whole.at_first).all()
    assert (pieces.at_second == whole.at_second).all()


@given(st.integers(2, 20), st.integers(0, 2**16))
@settings(max_examples=30)
def test_mutual_neighbours_are_partners_of_whom_nobody_is_nearer(n, seed):
    first, second = directions(n, 5, seed), directions(n, 5, seed + 1)
    found = mutual(nearest(first, second))
    assert len(set(found.second.tolist())) == len(found.first) >= 1
    cosines = first @ second.T
    assert (cosines[found.first].max(1) == cosines[found.first, found.second]).all()
    assert (cosines[:, found.second].max(0) == cosines[found.first, found.second]).all()
    assert match_directions(first, second).method == "hungarian"
    bounded = match_directions(first, second, exact=1)
    assert bounded.method == "mutual nearest"
    assert (bounded.second == found.second).all()


def test_random_directions_agree_as_little_as_they_should():
    rng = np.random.default_rng(0)
    spread = np.diag([100.0] * 3 + [0.01] * 13)
    null = RandomDirections(spread, seed=0).sets(32)
    first = unit_rows(rng.normal(size=(32, 16)) @ np.sqrt(spread))
    by_null = {
        name: np.mean([directions_agree(first, drawn)[0]["mean_matched"] for drawn in sets])
        for name, sets in null.items()
    }
    assert by_null["covariance"] > by_null["isotropic"] + 0.2, "directions where the site varies are the harder null"
    assert {drawn.shape for sets in null.values() for drawn in sets} == {(32, 16)}


@given(st.integers(5, 40), st.integers(1, 7), st.integers(0, 2**16))
@settings(max_examples=30)
def test_correlations_in_batches_are_correlations(rows, size, seed):
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=(rows, 3)) + 3, rng.normal(size=(rows, 2)) * 5
    g[:, 1] = 2
    sums = JointMoments(3, 2)
    for start in range(0, rows, size):
        sums.add(*(torch.from_numpy(part[start : start + size]).float() for part in (f, g)))
    found = sums.correlations()
    expected = [np.corrcoef(f[:, i], g[:, 0])[0, 1] for i in range(3)]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-3)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-2)


def test_partners_by_direction_and_by_activation():
    correlations = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    found, by_activation = similarities_agree(correlations)
    assert found["mean_matched"] == pytest.approx(0.85)
    crossed = by_activation._replace(second=by_activation.second[::-1])
    assert same_partners(by_activation, by_activation, correlations)["same"] == 1
    assert same_partners(crossed, by_activation, correlations) == {"same": 0.0, "correlation": pytest.approx(0.15)}


def test_a_zero_direction_is_refused():
    with refused("1 of 2", "zero"):
        unit_rows(np.array([[0.0, 0.0], [1.0, 0.0]]))


def test_who_is_compared_with_whom():
    settings = {"architecture": "topk", "k": 3, "latents": 8, "seed": None}
    members = {
        "a": kin(settings, 0),
        "b": kin(settings | {"seed": 2}, 0),
        "c": kin(settings | {"seed": 1}, 0),
        "wide": kin(settings | {"latents": 16}, 0),
        "wider": kin(settings | {"latents": 32}, 0),
        "other": kin(settings | {"k": 4}, 0),
    }
    assert members["a"] == Kin(members["b"].settings, 8, 0)
    assert seed_groups(members) == [["a", "c", "b"]]
    assert width_pairs(members) == [("a", "wide"), ("a", "wider"), ("wide", "wider")]


def test_rows_of_the_null_are_the_same_step_of_another_episode():
    episodes = np.repeat(np.arange(12), 5)
    found = other_rows(episodes, seed=0)
    assert sorted(found.tolist()) == list(range(60))
    assert (found % 5 == np.arange(60) % 5).all()
    assert (episodes[found] != episodes).mean() > 0.5
    lengths = np.arange(3, 15)  # no two alike: shifted within the episode
    episodes = np.repeat(np.arange(12), lengths)
    found = other_rows(episodes, seed=0)
    assert (episodes[found] == episodes).all()
    assert (found != np.arange(len(episodes))).mean() > 0.5


def world(rows=800, d=12, seed=0):
    """Rows in which six of eight known features are active now and then, in episodes of ten rows."""
    rng = np.random.default_rng(seed)
    features = directions(8, d, 7)
    codes = np.where(rng.random((rows, 8)) < 0.2, rng.uniform(0.5, 1.5, (rows, 8)), 0)
    codes[:, 6:] = 0
    return features, (codes @ features).astype(np.float32), np.repeat(np.arange(rows // 10), 10)


def test_seeds_that_found_the_same_are_told_from_seeds_that_did_not():
    features, x, episodes = world()
    threshold = 0.4
    order = np.random.default_rng(0).permutation(8)
    saes = {
        "one": made(features, threshold=threshold, seed=0),
        "same": made(features[order], threshold=threshold, seed=1),
        "strange": made(directions(8, 12, 99), threshold=threshold, seed=2),
    }
    found = compare(saes, x, episodes, seed=0)
    (group,) = found["stability"]
    assert group["members"] == ["one", "same", "strange"]
    pairs = {(pair["first"], pair["second"]): pair for pair in group["pairs"]}
    same, strange = pairs["one", "same"], pairs["one", "strange"]
    assert same["directions"]["observed"]["shares"]["0.9"] == 1
    assert same["activations"]["observed"]["mean_matched"] == pytest.approx(1, abs=1e-5)
    assert same["activations"]["of_direction_partners"] == {"same": 1.0, "correlation": pytest.approx(1, abs=1e-5)}
    assert same["activations"]["permuted"]["mean_matched"] < 0.3
    for null in ("isotropic", "covariance"):
        assert same["directions"][null]["mean_matched"] < 0.8
    assert strange["directions"]["observed"]["mean_matched"] < 0.8
    assert group["summary"]["directions"]["mean_matched"]["highest"] == pytest.approx(1, abs=1e-6)


def test_dead_latents_stand_apart():
    features, x, episodes = world()
    dead = features.copy()
    b_enc = np.zeros(8)
    b_enc[3] = -100
    found = compare({"a": made(features), "b": made(dead, b_enc=b_enc, seed=1)}, x, episodes, seed=0)
    assert found["members"]["b"]["alive"] == found["members"]["a"]["alive"] - 1
    found = compare({"a": made(features), "b": made(dead, b_enc=np.full(8, -100), seed=1)}, x, episodes, seed=0)
    assert (found["members"]["b"]["alive"], found["stability"]) == (0, [])


def test_wide_dictionaries_have_no_matrix_of_correlations(monkeypatch):
    features, x, episodes = world()
    monkeypatch.setattr(comparison, "EXACT", 4)
    found = compare({"a": made(features), "b": made(features, seed=1)}, x, episodes, seed=0)
    assert found["stability"][0]["pairs"][0]["activations"] is None
    assert "activations" not in found["stability"][0]["summary"]
