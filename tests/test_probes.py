"""Logistic probes against a general optimiser, in closed cases, and what they refuse."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from policylens.concepts.probes import balanced_weights, chosen_scores, fit_chosen, fit_probes


def problem(seed, n=200, d=4, t=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 5, 0.1, 1]) + 3
    truth = torch.randn(d, t, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, t, generator=generator, dtype=torch.float64)
    return x, ((x - 3) @ truth + noise > 0.5).double()


def by_scipy(x, y, ridge, v):
    """Weights and intercept, in standardised columns turned back."""
    mean, spread = x.mean(0), x.std(0)
    z = (x - mean) / spread

    def objective(p):
        logits = z @ p[:-1] + p[-1]
        return (v * (np.logaddexp(0, logits) - y * logits)).mean() + ridge / 2 * (p[:-1] ** 2).sum()

    p = scipy.optimize.minimize(objective, np.zeros(x.shape[1] + 1), tol=1e-12).x
    return p[:-1] / spread, p[-1] - (p[:-1] / spread * mean).sum()


@pytest.mark.parametrize("balanced", [False, True])
def test_probes_are_the_minimum(balanced):
    x, y = problem(0)
    weights = balanced_weights(y) if balanced else None
    ridges = (1e-3, 0.3)
    for ridge, probes in zip(ridges, fit_probes(x, y, ridges, weights), strict=True):
        for t in range(3):
            v = np.ones(len(x)) if weights is None else weights[:, t].numpy()
            w, b = by_scipy(x.numpy(), y[:, t].numpy(), ridge, v)
            np.testing.assert_allclose(probes.weights[:, t], w, rtol=1e-2, atol=3e-3)
            assert float(probes.intercepts[t]) == pytest.approx(b, rel=1e-2, abs=3e-3)


def test_chosen_columns_are_a_probe_of_these_columns():
    x, y = problem(1)
    columns = torch.tensor([[0, 1, 3], [2, 3, 1]])
    weights = balanced_weights(y)
    found = fit_chosen(x, columns, y, 0.01, weights)
    for t in range(3):
        own = x[:, columns[:, t]]
        alone = fit_probes(own, y[:, t : t + 1], (0.01,), weights[:, t : t + 1])[0]
        np.testing.assert_allclose(found.weights[:, t], alone.weights[:, 0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            chosen_scores(found, x, columns)[:, t], alone.scores(own)[:, 0], rtol=1e-3, atol=1e-3
        )


def test_weights_by_hand():
    weights = balanced_weights(torch.tensor([[1.0], [0], [0], [0]]))
    np.testing.assert_allclose(weights[:, 0], [2, 2 / 3, 2 / 3, 2 / 3], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_scale_and_shift_of_a_column_change_no_score(seed):
    x, y = problem(seed, n=80)
    moved = x * torch.tensor([3.0, -2, 10, 0.5]) + torch.tensor([1.0, 0, -5, 2])
    first, second = (fit_probes(columns, y, (0.05,))[0].scores(columns) for columns in (x, moved))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)


def test_separable_labels_and_constant_columns_have_finite_probes():
    x = torch.cat([torch.linspace(-1, 1, 50)[:, None], torch.full((50, 1), 7.1)], dim=1)
    y = (x[:, :1] > 0).float()
    probes = fit_probes(x, y, (1e-4,))[0]
    assert torch.isfinite(probes.weights).all()
    assert float(probes.weights[1, 0]) == 0
    assert ((probes.scores(x) > 0) == (y > 0)).float().mean() > 0.95
    with refused("ridge", "0"):
        fit_probes(x, y, (0.0,))
