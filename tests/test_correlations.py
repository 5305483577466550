"""Correlations of inputs with latents: exact against scipy, with a null that knows of episodes, and held-out scores."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from support import refused

from policylens.correlations.columns import columns_of, standardised
from policylens.correlations.held_out import held_out
from policylens.correlations.measure import MEASURES, Pair, correlations, groups_of
from policylens.correlations.null import draws_of, enough_shifts, shift_null
from policylens.correlations.sample import Sample
from policylens.correlations.scoring import correlation_of_sums
from policylens.correlations.study import TOO_SHORT, UNSEEN, study
from policylens.statistics.resampling import Resampling

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}


def sparse_rows(rng, n, m, active=0.2):
    """Latents as SAEs have them: mostly 0, some of the values repeated."""
    values = np.where(rng.random((n, m)) < active, rng.exponential(size=(n, m)), 0)
    return np.where(rng.random((n, m)) < 0.3, np.round(values, 1), values)


def small(seed=0, n=300, m=7):
    """Inputs with ties, a constant and unknown rows; latents with a dead one, a constant one and a rare one."""
    rng = np.random.default_rng(seed)
    latents = sparse_rows(rng, n, m)
    latents[:, 1], latents[:, 2] = 0, 0.7
    latents[:, 3] = 0
    latents[5, 3] = 2
    latents[:, 4] -= 0.1  # no zeros: a dense column among sparse ones
    inputs = np.stack([rng.normal(size=n) + latents[:, 0], rng.integers(0, 3, n), np.full(n, 0.1), latents[:, 5]], 1)
    unknown = np.where(np.arange(n) % 3 == 0, np.nan, inputs[:, 0])
    return np.column_stack([inputs, unknown, 1e8 + inputs[:, 0]]), latents


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("sparse", [True, False])
def test_they_are_those_of_scipy(measure, sparse):
    inputs, latents = small()
    found = correlations(inputs, scipy.sparse.csc_array(latents) if sparse else latents)[measure]
    for place, column in enumerate(inputs.T):
        known = ~np.isnan(column)
        for latent, own in enumerate(latents.T):
            if np.ptp(column[known]) == 0 or np.ptp(own[known]) == 0:
                assert found[place, latent] == 0
            else:
                expected = SCIPY[measure](column[known], own[known]).statistic
                assert found[place, latent] == pytest.approx(expected, abs=1e-12 if place < 5 else 1e-7)
    assert found[3, 5] == pytest.approx(1)


def test_known_values_come_out():
    x = np.array([[-1.0, 0, 1, 2]]).T
    columns = np.stack([2 * x[:, 0] + 5, -(x[:, 0] ** 3), [0, 0, 0, 1], [3, 3, 3, 3]], 1)
    found = correlations(x, columns)
    np.testing.assert_allclose(found["spearman"][0], [1, -1, np.sqrt(3 / 5), 0], atol=1e-15)
    np.testing.assert_allclose(found["pearson"][0, [0, 2, 3]], [1, np.sqrt(3 / 5), 0], atol=1e-15)


NUMBERS = st.floats(-100, 100).map(lambda value: round(value, 2))


@given(arrays(float, (12, 5), elements=NUMBERS), arrays(float, (12, 3), elements=NUMBERS), st.permutations(range(5)))
def test_the_order_of_latents_is_that_of_the_columns(latents, inputs, order):
    found = correlations(inputs, scipy.sparse.csc_array(latents))
    other = correlations(inputs, scipy.sparse.csc_array(latents[:, order]))
    for measure in MEASURES:
        np.testing.assert_array_equal(found[measure][:, order], other[measure])


@given(
    arrays(float, (12, 5), elements=NUMBERS), arrays(float, (12, 3), elements=NUMBERS), st.sampled_from([0.01, 3, 1e4])
)
def test_the_scale_of_inputs_and_latents_is_nothing(latents, inputs, scale):
    found = correlations(inputs, scipy.sparse.csc_array(latents))
    other = correlations(inputs * -scale, scipy.sparse.csc_array(latents * scale))
    np.testing.assert_allclose(other["pearson"], -found["pearson"], atol=1e-9)
    np.testing.assert_allclose(other["spearman"], -found["spearman"], atol=1e-9)


@given(arrays(float, (20, 2), elements=NUMBERS), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_sums_of_batches_are_those_of_the_whole(values, batches):
    x, y = (values - values.mean(0)).T
    terms = [np.bincount(batches, part, 4) for part in (np.ones(20), x, y, x * x, y * y, x * y)]
    whole = correlation_of_sums(*(term.sum() for term in terms))
    expected = correlations(values[:, :1], values[:, 1:])["pearson"][0, 0]
    assert whole == pytest.approx(expected, abs=1e-6)


def test_inputs_are_grouped_by_the_rows_in_which_they_are_known():
    inputs = np.zeros((4, 4))
    inputs[1, [1, 3]] = np.nan
    assert [group.places.tolist() for group in groups_of(inputs)] == [[0, 2], [1, 3]]
    assert groups_of(inputs)[1].rows.tolist() == [True, False, True, True]


# Null


def series(rng, episodes, steps, columns, memory=0.95):
    """Stationary autoregressions, episode by episode: (episodes * steps, columns)."""
    out = np.empty((episodes, steps, columns))
    out[:, 0] = rng.standard_normal((episodes, columns))
    for step in range(1, steps):
        out[:, step] = memory * out[:, step - 1] + np.sqrt(1 - memory**2) * rng.standard_normal((episodes, columns))
    return out.reshape(-1, columns)


def p_of_shifts(rng, shifts=99):
    episodes = np.repeat(np.arange(4), 100)
    latents = np.maximum(series(rng, 4, 100, 3) - 0.5, 0)
    pair = Pair(standardised(series(rng, 4, 100, 2)), columns_of(scipy.sparse.csc_array(latents)))
    return pair, shift_null(pair, draws_of(episodes, shifts, int(rng.integers(1 << 30))))


def test_shifts_are_calibrated_where_permuted_rows_are_not():
    rng = np.random.default_rng(2)
    shifted, by_input, permuted = [], [], []
    for _ in range(150):
        pair, null = p_of_shifts(rng)
        shifted.append(null.p[0, 0])
        by_input.append(null.adjusted_p[0].min())
        rows = [pair.columns.correlations(pair.inputs[rng.permutation(400)])[0, 0] for _ in range(99)]
        permuted.append((1 + np.sum(np.abs(rows) >= abs(pair.correlations[0, 0]))) / 100)
    for p in (shifted, by_input):
        assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.11
        assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(permuted) <= 0.05) > 0.3


def test_the_null_is_what_plain_shifting_gives():
    rng = np.random.default_rng(4)
    episodes = np.repeat([0, 1, 2], [5, 9, 6])
    inputs, latents = rng.normal(size=(20, 3)), sparse_rows(rng, 20, 4, 0.5)
    draws = draws_of(episodes, 50, 1)
    null = shift_null(Pair(standardised(inputs), columns_of(scipy.sparse.csc_array(latents))), draws)
    found = np.empty((50, 3, 4))
    for draw, shifts in enumerate(draws.shifts):
        moved = np.concatenate([np.roll(inputs[episodes == e], -shift, 0) for e, shift in enumerate(shifts)])
        found[draw] = correlations(moved, latents)["pearson"]
    observed = correlations(inputs, latents)["pearson"]
    np.testing.assert_allclose(null.largest, np.abs(found).max(2), atol=1e-11)
    reached = (np.abs(found).max(2)[:, :, None] >= np.abs(observed)[None] - 1e-10).sum(0)
    np.testing.assert_allclose(null.adjusted_p, (1 + reached) / 51)


def test_blocks_of_inputs_change_nothing(monkeypatch):
    _, whole = p_of_shifts(np.random.default_rng(5))
    monkeypatch.setattr("policylens.correlations.null.AT_ONCE", 1)
    _, pieces = p_of_shifts(np.random.default_rng(5))
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)


def sample_of(rng, episodes=12, steps=30, follow=1.0):
    """Latent 0 and unit 2 follow input 0; inputs 2 to 4 are unknown, constant, and constant in every episode."""
    n, numbers = episodes * steps, np.repeat(np.arange(episodes), steps)
    inputs = series(rng, episodes, steps, 5, 0.5)
    inputs[numbers > 0, 2] = np.nan
    inputs[:, 3], inputs[:, 4] = 1, numbers % 3
    latents = np.maximum(rng.normal(size=(n, 6)) + follow * np.outer(inputs[:, 0], np.arange(6) == 0), 0)
    units = rng.normal(size=(n, 4)) - 2 * np.outer(inputs[:, 0], np.arange(4) == 2)
    return Sample(inputs, {"latents": scipy.sparse.csc_array(latents), "units": units}, numbers)


def test_a_study_finds_what_is_there_and_says_what_it_leaves_out():
    found = study(sample_of(np.random.default_rng(6)), 200, 0)
    assert found.kept.tolist() == [0, 1, 3, 4]
    assert found.left_out == [(2, UNSEEN)]
    arrays = found.by_input
    assert arrays["constant"].tolist() == [False, False, True, False]
    assert arrays["pearson_adjusted_p"][0].argmin() == np.abs(arrays["pearson"][0]).argmax() == 0
    assert arrays["pearson_adjusted_p"][0, 0] == pytest.approx(1 / 201)
    assert arrays["unit_spearman"][0, 2] < -0.7
    assert arrays["spearman_adjusted_p"][1].min() > 0.05
    assert np.isnan(arrays["pearson_p"][2:]).all(), "no shift changes an input that is constant in every episode"
    assert found.shifted["rows_per_episode"] == {"least": 30, "median": 30.0, "most": 30}


def test_without_shifts_there_is_no_null():
    found = study(sample_of(np.random.default_rng(6)), 0, 0)
    assert found.shifted is None
    assert not any(name.endswith(("_p", "_null")) for name in found.by_input)


def test_episodes_too_short_to_shift_are_said():
    sample = sample_of(np.random.default_rng(6), episodes=300, steps=1)
    assert not enough_shifts(np.ones(300))
    with refused(TOO_SHORT, "set shifts: 0"):
        study(sample, 200, 0)


# Held-out scores


def test_the_best_is_chosen_on_one_split_and_scored_on_another():
    rng = np.random.default_rng(7)
    validation, test = sample_of(rng), sample_of(rng, episodes=20)
    found = held_out(validation, test, Resampling(0, n_resamples=500))
    assert found.inputs.tolist() == [0, 1, 2, 4], "one is constant"
    assert found.candidates == {"latents": 6, "units": 4}
    assert (found.chosen["latents"][0], found.chosen["units"][0]) == (0, 2)
    own = correlations(test.inputs, test.sides["units"])["pearson"][0, 2]
    assert found.test["units"].value[0] == pytest.approx(-own), "times the sign that it was chosen with"
    assert found.test["latents"].low[0] < found.test["latents"].value[0] < found.test["latents"].high[0]
    assert found.difference.high[0] < 0
    latents = found.test["latents"].value
    assert found.means["latents"].value == pytest.approx(latents.mean())
    assert found.means["latents_minus_units"].value == pytest.approx((latents - found.test["units"].value).mean())
    assert {"latents_of_as_many", "latents_of_as_many_minus_units"} <= found.means.keys()


def test_luck_on_validation_is_not_scored():
    """Of many latents that follow nothing the best looks like something where it was chosen, and nowhere else."""
    rng = np.random.default_rng(8)
    splits = [
        Sample(rng.normal(size=(400, 40)), {"latents": rng.normal(size=(400, 200)), "units": rng.normal(size=(400, 5))},
               np.repeat(np.arange(20), 20))
        for _ in range(2)
    ]  # fmt: skip
    found = held_out(*splits, Resampling(0, n_resamples=500))
    assert np.abs(found.validation["latents"]).min() > 0.09
    assert found.means["latents"].low < 0 < found.means["latents"].high


def test_nothing_to_choose_from_is_none():
    sample = sample_of(np.random.default_rng(9))
    silent = Sample(sample.inputs, {**sample.sides, "latents": scipy.sparse.csc_array((360, 6))}, sample.episodes)
    assert held_out(silent, sample, Resampling(0)) is None
