"""AUC of many features at once: against counting pairs, under ties and strata, and its interval against a plain one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from policylens.statistics.auc import (
    Pairs,
    auc_estimates,
    auc_of,
    aucs,
    best_of_subset,
    mean_auc,
    mean_auc_difference,
    midranks,
)
from policylens.statistics.intervals import bootstrap_mean_ratio, bootstrap_ratio, cluster_bootstrap
from policylens.statistics.resampling import Resampling

RESAMPLING = Resampling(seed=0, n_resamples=1000)


def counted(scores, positive, strata=None):
    """(pairs won, pairs) by counting each."""
    strata = np.zeros(len(scores), int) if strata is None else strata
    won = pairs = 0.0
    for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        if strata[i] == strata[j]:
            pairs += 1
            won += (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
    return won, pairs


def some(n, seed, t=3):
    """Scores with many zeros and ties, labels, clusters and strata."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, n) * (rng.random(n) < 0.6)
    positive = rng.random((n, t)) < 0.4
    positive[:2] = [[True], [False]]
    return scores.astype(np.float32), positive, np.sort(rng.integers(0, 4, n)), rng.integers(0, 2, n)


def test_midranks_by_hand():
    ranks = midranks(np.array([[0.0, 5], [3, 5], [0, 5], [-1, 5], [3, 5], [7, 5]]))
    assert ranks[:, 0].tolist() == [2.5, 4.5, 2.5, 1, 4.5, 6]
    assert ranks[:, 1].tolist() == [3.5] * 6


@given(st.integers(2, 40), st.integers(0, 1000))
def test_aucs_count_pairs(n, seed):
    scores, positive, *_ = some(n, seed)
    found = aucs(np.stack([scores, -scores], 1), positive)
    for t in range(3):
        won, pairs = counted(scores, positive[:, t])
        assert found[0, t] == pytest.approx(won / pairs)
        assert found[1, t] == pytest.approx(1 - won / pairs)


@settings(max_examples=60)
@given(st.integers(4, 40), st.integers(0, 1000), st.booleans())
def test_wins_count_pairs_of_each_clusters_rows(n, seed, stratified):
    scores, positive, clusters, strata = some(n, seed)
    strata = strata if stratified else None
    pairs = Pairs(positive, clusters, 4, strata)
    wins = pairs.wins(scores)
    for t in range(3):
        won, total = counted(scores, positive[:, t], strata)
        assert wins[:, t].sum() == pytest.approx(2 * won)
        assert pairs.totals[:, t].sum() == pytest.approx(2 * total)
        for c in range(4):
            mine = clusters == c
            expected = 0.0
            for own in np.flatnonzero(mine):
                for other in range(n):
                    same = strata is None or strata[own] == strata[other]
                    if same and positive[own, t] != positive[other, t]:
                        first, second = (own, other) if positive[own, t] else (other, own)
                        expected += (scores[first] > scores[second]) + (scores[first] == scores[second]) / 2
            assert wins[c, t] == pytest.approx(expected)
    np.testing.assert_allclose(pairs.wins(-scores), pairs.totals - wins)
    np.testing.assert_allclose(pairs.wins(scores, np.array([2, 0])), wins[:, [2, 0]])


def episodes_with_scores(seed, n_episodes=60, rows=20):
    """Labels and scores that both vary with the episode: rows of one go together."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n_episodes), rows)
    level = rng.normal(size=(n_episodes, 1))[owner]
    positive = level + rng.normal(size=(len(owner), 2)) > 0
    scores = [0.7 * level[:, 0] + rng.normal(size=len(owner)) + positive[:, 0] * strength for strength in (0.5, 0.2)]
    return owner, positive, scores


def test_intervals_agree_with_resampling_rows_of_whole_episodes():
    owner, positive, (first, second) = episodes_with_scores(0)
    pairs = Pairs(positive, owner, 60)
    found = auc_estimates(pairs.wins(first), pairs.totals, RESAMPLING, len(owner))
    plain = cluster_bootstrap(
        np.arange(len(owner)),
        owner,
        Resampling(seed=1, n_resamples=1000, method="percentile"),
        lambda rows: aucs(first[rows][:, None], positive[rows])[0],
    )
    np.testing.assert_allclose(found.value, plain.value)
    width = plain.high - plain.low
    np.testing.assert_allclose(found.low, plain.low, atol=0.15 * width.max())
    np.testing.assert_allclose(found.high, plain.high, atol=0.15 * width.max())
    difference = mean_auc_difference(pairs.wins(first), pairs.wins(second), pairs.totals, RESAMPLING, len(owner))
    means = [mean_auc(pairs.wins(scores), pairs.totals, RESAMPLING, len(owner)) for scores in (first, second)]
    assert difference.value == pytest.approx(means[0].value - means[1].value)
    paired = cluster_bootstrap(
        np.arange(len(owner)),
        owner,
        Resampling(seed=1, n_resamples=1000, method="percentile"),
        lambda rows: float(
            np.mean(aucs(first[rows][:, None], positive[rows]) - aucs(second[rows][:, None], positive[rows]))
        ),
    )
    assert difference.value == pytest.approx(paired.value)
    assert difference.high - difference.low == pytest.approx(paired.high - paired.low, rel=0.15)


def test_rows_as_if_independent_would_claim_too_much():
    owner, positive, (first, _) = episodes_with_scores(1)
    wide, narrow = (
        auc_estimates(pairs.wins(first), pairs.totals, RESAMPLING, len(owner))
        for pairs in (Pairs(positive, owner, 60), Pairs(positive, np.arange(len(owner)), len(owner)))
    )
    assert ((wide.high - wide.low) > 1.3 * (narrow.high - narrow.low)).all()


def test_a_score_that_follows_the_phase_alone_has_no_auc_within_it():
    rng = np.random.default_rng(0)
    phase = rng.integers(0, 2, 4000)
    positive = (rng.random(4000) < np.where(phase == 1, 0.9, 0.1))[:, None]
    clusters = np.arange(4000) // 40
    scores = phase + 0.1 * rng.random(4000)
    plain, within = Pairs(positive, clusters, 100), Pairs(positive, clusters, 100, phase)
    assert auc_of(plain.wins(scores), plain.totals)[0] > 0.85
    assert auc_of(within.wins(scores), within.totals)[0] == pytest.approx(0.5, abs=0.05)


def test_a_label_without_pairs_in_any_stratum_has_no_auc():
    positive = np.array([[True, True], [True, False], [False, True], [False, False]] * 10)
    pairs = Pairs(positive, np.repeat(np.arange(10), 4), 10, np.tile([0, 0, 1, 1], 10))
    found = auc_estimates(pairs.wins(np.arange(40.0)), pairs.totals, RESAMPLING, 40)
    assert np.isnan(found.value[0])
    assert np.isnan(found.low[0])
    assert 0 <= found.low[1] <= found.value[1] <= found.high[1] <= 1
    assert mean_auc(pairs.wins(np.arange(40.0)), pairs.totals, RESAMPLING, 40).value == pytest.approx(found.value[1])


def test_labels_of_one_kind_are_refused():
    with refused("positive and negative"):
        aucs(np.ones((3, 1)), np.array([[True], [True], [True]]))


def test_mean_of_ratios():
    rng = np.random.default_rng(0)
    tops, bottoms = rng.random((30, 3)), rng.random((30, 3)) + 0.5
    found = bootstrap_mean_ratio(tops, bottoms, RESAMPLING)
    assert found.value == pytest.approx((tops.sum(0) / bottoms.sum(0)).mean())
    assert found.low < found.value < found.high
    single = bootstrap_ratio(tops[:, 0], bottoms[:, 0], RESAMPLING)
    alone = bootstrap_mean_ratio(tops[:, :1], bottoms[:, :1], RESAMPLING)
    assert (alone.value, alone.low, alone.high) == pytest.approx((single.value, single.low, single.high))


@given(st.integers(1, 12), st.data())
def test_the_best_of_a_subset(candidates, data):
    chosen = data.draw(st.integers(1, candidates))
    subsets = list(itertools.combinations(range(candidates), chosen))
    counts = np.bincount([min(subset) for subset in subsets], minlength=candidates - chosen + 1)
    np.testing.assert_allclose(best_of_subset(candidates, chosen), counts / math.comb(candidates, chosen), atol=1e-12)


def test_more_than_all_candidates_are_refused():
    with refused("subset of 5", "4 candidates"):
        best_of_subset(4, 5)
