"""Random control directions: their distribution, their norms, and where an effect stands among them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policylens.errors import UserError
from policylens.statistics.directions import (
    covariance_matched,
    covariance_of,
    equal_norm,
    isotropic,
    percentile,
)


def test_isotropic_directions_prefer_no_axis():
    directions = isotropic(20_000, 4, seed=0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions.T @ directions / 20_000, np.eye(4) / 4, atol=0.01)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.02)


def test_matched_directions_follow_the_covariance():
    covariance = np.array([[9.0, 3.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 0.01]])
    directions = covariance_matched(20_000, covariance, seed=1)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    # Signs of coordinates do not depend on the norm: of two normals they agree with chance 1/2 + asin(r)/pi.
    agree = np.mean(np.sign(directions[:, 0]) == np.sign(directions[:, 1]))
    assert abs(agree - (0.5 + np.arcsin(3 / np.sqrt(18)) / np.pi)) < 0.01
    assert np.mean(directions[:, 2] ** 2) < 0.01


def test_singular_covariance_confines_directions_to_its_range():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(10, 3)))[0]
    activations = rng.normal(size=(500, 3)) @ basis.T + 5
    directions = covariance_matched(50, covariance_of(activations), seed=2)
    np.testing.assert_allclose(directions @ basis @ basis.T, directions, atol=1e-10)


def test_covariance_is_that_of_numpy_and_does_not_lose_half_precision(monkeypatch):
    activations = (100 + np.random.default_rng(3).normal(size=(300, 5))).astype(np.float16)
    monkeypatch.setattr("policylens.statistics.directions._ENTRIES_IN_MEMORY", 64)
    np.testing.assert_allclose(covariance_of(activations), np.cov(activations.astype(float).T), rtol=1e-9)


def test_directions_follow_the_seed():
    covariance = np.diag([1.0, 2.0])
    for draw in (lambda s: isotropic(3, 2, s), lambda s: covariance_matched(3, covariance, s)):
        assert draw(1).tobytes() == draw(1).tobytes()
        assert not np.allclose(draw(1), draw(2))


def test_every_row_gets_its_norm():
    directions, norms = isotropic(4, 6, seed=0) * 3, np.array([0.0, 1.0, 2.5])
    perturbations = equal_norm(directions[:, None], norms)
    assert perturbations.shape == (4, 3, 6)
    np.testing.assert_allclose(np.linalg.norm(perturbations, axis=-1), np.tile(norms, (4, 1)))
    np.testing.assert_allclose(equal_norm(directions, 3 * np.ones(4)), directions)


def test_percentile_by_hand():
    controls = np.arange(9.0)
    assert percentile(4.0, controls, minimum=9) == 50
    assert percentile(4.5, controls, minimum=9) == pytest.approx(55)
    assert percentile(100.0, controls, minimum=9) == pytest.approx(95)
    assert percentile(-1.0, controls, minimum=9) == pytest.approx(5)
    np.testing.assert_allclose(
        percentile(np.array([4.0, 100.0]), np.stack([controls, controls], 1), minimum=9), [50, 95]
    )
    np.testing.assert_allclose(percentile(np.array([4.0, 100.0]), controls, minimum=9), [50, 95])


@given(
    hnp.arrays(np.int64, st.integers(1, 50), elements=st.integers(-5, 5)),
    st.integers(-6, 6),
    st.integers(0, 3),
)
def test_percentile_is_symmetric_monotone_and_never_certain(controls, effect, more):
    place = percentile(effect, controls, minimum=1)
    assert 0 < place < 100
    assert place + percentile(-effect, -controls, minimum=1) == pytest.approx(100)
    assert percentile(effect + more, controls, minimum=1) >= place


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: isotropic(0, 3, 0), "at least 1"),
        (lambda: covariance_of(np.zeros((1, 3))), "at least 2 rows"),
        (lambda: covariance_of(np.full((4, 3), np.nan)), "12 of 12 values are NaN"),
        (lambda: covariance_matched(3, np.zeros((3, 3)), 0), "positive semidefinite"),
        (lambda: covariance_matched(3, np.diag([1.0, -1.0]), 0), "positive semidefinite"),
        (lambda: covariance_matched(3, np.array([[1.0, 0.5], [0.0, 1.0]]), 0), "symmetric"),
        (lambda: equal_norm(np.zeros((2, 3)), np.ones(2)), "zero vectors"),
        (lambda: equal_norm(np.ones((2, 3)), -np.ones(2)), "at least 0"),
        (lambda: equal_norm(np.ones((2, 3)), np.ones(5)), "does not fit"),
        (lambda: percentile(1.0, np.zeros(199)), "at least 200"),
        (lambda: percentile(np.zeros(2), np.zeros((200, 3))), "does not fit"),
        (lambda: percentile(np.nan, np.zeros(200)), "NaN"),
    ],
)
def test_bad_input_is_refused_in_one_line(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()
