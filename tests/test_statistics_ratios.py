"""The ratio of paired measurements: a value by hand, and the coverage it promises."""

import numpy as np
import pytest

from policylens.errors import UserError
from policylens.statistics.ratios import paired_ratio


def test_three_pairs_by_hand():
    # Ratios 2, 4, 8: logarithms (1, 2, 3) log 2, mean 2 log 2, standard deviation log 2, t_2 at 97.5% = 4.302653.
    estimate = paired_ratio(np.array([2.0, 8.0, 24.0]), np.array([1.0, 2.0, 3.0]))
    half = 4.302652729911275 * np.log(2) / np.sqrt(3)
    np.testing.assert_allclose(
        (estimate.value, estimate.low, estimate.high), (4, 4 * np.exp(-half), 4 * np.exp(half)), rtol=1e-9
    )
    assert (estimate.n_clusters, estimate.unit) == (3, "seed")


def test_the_other_way_round_is_the_inverse():
    rng = np.random.default_rng(0)
    above, below = rng.gamma(5, size=(2, 4))
    one, other = paired_ratio(above, below), paired_ratio(below, above)
    np.testing.assert_allclose((one.value, one.low, one.high), (1 / other.value, 1 / other.high, 1 / other.low))


def test_a_disturbance_that_both_share_cancels():
    below = np.array([1.0, 3.0, 10.0])
    estimate = paired_ratio(3 * below, below)
    np.testing.assert_allclose((estimate.low, estimate.high), (3, 3))


def test_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    logs = rng.normal(np.log(3), 0.2, size=(2000, 3))
    covered = [e.low <= 3 <= e.high for e in (paired_ratio(np.exp(row), np.ones(3)) for row in logs)]
    assert 0.935 < np.mean(covered) < 0.965


@pytest.mark.parametrize(
    ("above", "below", "message"),
    [([1.0], [1.0], "n pairs"), ([1.0, 0.0], [1.0, 1.0], "positive"), ([1.0, 2.0], [1.0], "above and below")],
)
def test_bad_input_is_refused(above, below, message):
    with pytest.raises(UserError, match=message):
        paired_ratio(np.array(above), np.array(below))
