"""Corrections for searching: against scipy and by hand, and error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import false_discovery_control, norm

from policylens.errors import UserError
from policylens.statistics.associations import association_null
from policylens.statistics.correction import benjamini_hochberg, benjamini_yekutieli, max_statistic

some_p_values = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


def test_benjamini_hochberg_by_hand():
    # Sorted: .01*4/1, .02*4/2, .03*4/3, .5*4/4, then the running minimum from the right.
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.5, 0.02, 0.01, 0.03])), [0.5, 0.04, 0.04, 0.04])


@given(some_p_values)
def test_false_discovery_rates_agree_with_scipy(p):
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p, method="bh"), atol=1e-12)
    np.testing.assert_allclose(benjamini_yekutieli(p), false_discovery_control(p, method="by"), atol=1e-12)


@given(some_p_values)
def test_adjusted_p_values_keep_the_order_and_never_shrink(p):
    for adjust in (benjamini_hochberg, benjamini_yekutieli):
        adjusted = adjust(p)
        assert np.all(np.diff(adjusted[np.argsort(p)]) >= -1e-15)
        assert np.all((adjusted >= p - 1e-15) & (adjusted <= 1))


def test_benjamini_hochberg_holds_the_false_discovery_rate_of_a_mixture():
    rng = np.random.default_rng(1)
    effects = np.repeat([0.0, 3.0], [150, 50])
    raw = norm.sf(effects + rng.standard_normal((400, 200)))

    def false_share(p):
        found = p <= 0.1
        return (found & (effects == 0)).sum(axis=1) / np.maximum(found.sum(axis=1), 1)

    adjusted = np.apply_along_axis(benjamini_hochberg, 1, raw)
    assert 0.065 < false_share(adjusted).mean() < 0.085
    assert false_share(raw).mean() > 0.2
    assert (adjusted <= 0.1)[:, 150:].mean() > 0.7


def test_max_statistic_by_hand():
    observed = np.array([3.0, -5.0, 0.0])
    null = np.array([[1.0, -2.0, 0.5], [4.0, 1.0, -1.0], [0.0, 0.0, 2.0]])
    plain = max_statistic(observed, null, alternative="greater", studentise=False)
    centred = np.concatenate([observed[None], null]) - np.concatenate([observed[None], null]).mean(axis=0)
    largest = centred[1:].max(axis=1)
    np.testing.assert_allclose(plain, [(1 + (largest >= score).sum()) / 4 for score in centred[0]])


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_stepping_down_only_helps_and_keeps_the_order(alternative):
    rng = np.random.default_rng(2)
    observed, null = rng.normal(size=30) * 2, rng.normal(size=(500, 30))
    one_step = max_statistic(observed, null, alternative=alternative)
    stepped = max_statistic(observed, null, alternative=alternative, step_down=True)
    assert np.all(stepped <= one_step)
    assert np.any(stepped < one_step)
    assert np.array_equal(stepped.min(), one_step.min())


def test_stepping_down_never_ranks_a_feature_above_a_more_extreme_one():
    rng = np.random.default_rng(7)
    null = rng.normal(size=(999, 2)) * [2.0, 0.3]
    stepped = max_statistic(np.array([2.0, 1.9]), null, alternative="greater", studentise=False, step_down=True)
    assert stepped[0] > 0.1
    assert stepped[1] == stepped[0]


def test_mirrored_statistics_swap_greater_and_less():
    rng = np.random.default_rng(3)
    observed, null = rng.normal(size=8) * 2, rng.normal(size=(99, 8))
    np.testing.assert_array_equal(
        max_statistic(observed, null, alternative="greater"),
        max_statistic(-observed, -null, alternative="less"),
    )


def test_studentising_keeps_a_wide_null_from_setting_the_bar():
    rng = np.random.default_rng(4)
    null = rng.normal(size=(999, 2)) * [1, 100]
    observed = np.array([8.0, 10.0])
    assert max_statistic(observed, null)[0] < 0.01
    assert max_statistic(observed, null, studentise=False)[0] > 0.5


def test_features_that_never_vary_get_one():
    null = np.stack([np.full(50, 0.3), np.linspace(-1, 1, 50)], axis=1)
    np.testing.assert_array_equal(max_statistic(np.array([0.3, 0.0]), null), 1.0)


@pytest.mark.parametrize("step_down", [False, True])
def test_family_wise_error_on_correlated_features_of_episodes(step_down):
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(20), 10)
    label = np.repeat(np.arange(20) % 2, 10)
    any_adjusted, any_raw = [], []
    for seed in range(300):
        shared = rng.normal(size=(20, 1))
        features = np.repeat(shared + rng.normal(size=(20, 30)), 10, axis=0) + rng.normal(size=(200, 30))
        result = association_null(
            features, label, clusters, measure="auc", scheme="permute", seed=seed, n_permutations=99
        )
        adjusted = max_statistic(result.observed, result.null, step_down=step_down)
        any_adjusted.append(adjusted.min() <= 0.05)
        any_raw.append(result.p_values().min() <= 0.05)
    assert 0.02 < np.mean(any_adjusted) < 0.085
    assert np.mean(any_raw) > 0.4


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: benjamini_hochberg(np.array([])), "empty"),
        (lambda: benjamini_hochberg(np.array([0.1, 1.2])), "0..1"),
        (lambda: benjamini_yekutieli(np.array([0.1, np.nan])), "1 of 2 values are NaN"),
        (lambda: max_statistic(np.zeros(2), np.zeros((5, 3))), "lengths differ"),
        (lambda: max_statistic(np.zeros(2), np.zeros((0, 2))), "empty"),
        (lambda: max_statistic(np.zeros(2), np.zeros((5, 2)), alternative="up"), "alternative"),
    ],
)
def test_bad_input_is_refused_in_one_line(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()
