"""SAEs that normalise each row by numbers of its own: what is encoded, and what comes back in the row's own units."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_cases import OWN, planted, settings_of
from sae_made import directions, made, normalising
from support import refused

from policylens.evaluation.reconstruction import row_table
from policylens.sae.files import load_sae, save_sae
from policylens.sae.row_kinds import ROW_NORMS
from policylens.sae.row_norm import scales_of
from policylens.sae.settings import resolve
from policylens.sae.training import train

SHORT = {"steps": 30, "batch_rows": 64, "log_points": 2, "monitor_rows": 100, "learning_rate": 1e-2}
ROWS, _ = planted(600)


def random_sae(kind, d=6, m=14, seed=0):
    rng = np.random.default_rng(seed)
    own = made(directions(m, d, seed), rng.normal(size=(d, m)), rng.normal(size=m), rng.normal(size=d))
    return normalising(own, kind)


def perfect(kind, d=6):
    """Two latents per dimension, one for each sign: every row is reconstructed."""
    eye = np.eye(d)
    return normalising(made(np.concatenate([eye, -eye])), kind)


GOLDEN = {
    # the row [1, 2, 3, 6]: mean 3; deviations -2, -1, 0, 3 with squares 14, 14 / 3 = 4.6667, its root 2.1602
    "layer_norm": ([-0.925816, -0.462908, 0.0, 1.388724], 2.160247, 3.0),
    "mean_abs": ([1 / 3, 2 / 3, 1.0, 2.0], 3.0, 0.0),
    # squares 1, 4, 9, 36: their mean 12.5
    "rms": ([0.282843, 0.565685, 0.848528, 1.697056], 3.535534, 0.0),
}


@pytest.mark.parametrize("kind", ROW_NORMS)
def test_a_row_worked_out_by_hand(kind):
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    normalised, spread, centre = GOLDEN[kind]
    found = scales_of(kind, x)
    torch.testing.assert_close(found.into(x), torch.tensor([normalised]), atol=2e-5, rtol=0)
    torch.testing.assert_close(found.spread, torch.tensor([[spread]]), atol=2e-5, rtol=0)
    assert float(0 if found.centre is None else found.centre) == centre
    assert torch.equal(found.into_(x.clone()), found.into(x))
    sae = perfect(kind, 4)
    torch.testing.assert_close(sae.encode(x)[:, :4], torch.tensor([normalised]).clamp(min=0), atol=2e-5, rtol=0)
    torch.testing.assert_close(sae.decode(sae.encode(x)), torch.tensor([normalised]), atol=2e-5, rtol=0)
    torch.testing.assert_close(sae(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ROW_NORMS)
def test_rows_without_a_spread_come_back(kind):
    flat = torch.full((2, 6), 3.0) if kind == "layer_norm" else torch.zeros(2, 6)
    sae = random_sae(kind)
    assert torch.equal(sae.normalised(flat), torch.zeros(2, 6))
    assert torch.equal(sae(flat), flat)


def test_a_single_number_has_no_spread():
    with refused("row_norm layer_norm", "at least two"):
        random_sae("layer_norm", d=1)(torch.ones(3, 1))


@given(
    kind=st.sampled_from(ROW_NORMS),
    factor=st.floats(0.5, 50),
    offset=st.floats(-20, 20),
    seed=st.integers(0, 99),
)
def test_latents_do_not_feel_a_rows_scale(kind, factor, offset, seed):
    """Nor its offset, with layer_norm; the reconstruction follows both."""
    sae = random_sae(kind, seed=seed).to(dtype=torch.float64)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    moved = x * factor + (offset if kind == "layer_norm" else 0)
    tolerance = {"atol": 1e-3, "rtol": 1e-3} if kind == "layer_norm" else {"atol": 1e-8, "rtol": 1e-8}
    torch.testing.assert_close(sae.encode(moved), sae.encode(x), **tolerance)
    wanted = sae(x) * factor + (offset if kind == "layer_norm" else 0)
    torch.testing.assert_close(sae(moved), wanted, **tolerance)


@given(kind=st.sampled_from(ROW_NORMS), seed=st.integers(0, 99))
def test_what_a_change_of_latents_adds(kind, seed):
    """Exactly the difference of two reconstructions of the same row."""
    sae = random_sae(kind, seed=seed).to(dtype=torch.float64)
    x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4 + 1
    f = sae.encode(x)
    g = f.flip(-1)
    wanted = sae.reconstruct(g, x) - sae.reconstruct(f, x)
    torch.testing.assert_close(sae.added(g - f, x), wanted, atol=1e-10, rtol=1e-10)
    assert sae.spread(x).shape == (2, 3, 1)


@pytest.mark.parametrize("architecture", sorted(OWN.keys() - {"transcoder"}))
@pytest.mark.parametrize("centre", [False, True])
def test_training_on_normalised_rows_is_training_on_such_data(tmp_path, architecture, centre):
    """What `row_norm` trains is what is trained on rows that were normalised beforehand."""
    own = {**SHORT, "centre": centre, "rescale": True}
    with_norm = settings_of(architecture, 24, **own, row_norm="layer_norm")
    sae, history = train(ROWS, with_norm, seed=3)
    x = torch.from_numpy(ROWS)
    inside = scales_of("layer_norm", x).into(x)
    plain, same = train(inside.numpy(), settings_of(architecture, 24, **own), seed=3)
    assert history == same
    assert all(torch.equal(sae.tensors[name], tensor) for name, tensor in plain.tensors.items())
    assert torch.equal(sae.encode(x), plain.encode(inside))
    np.testing.assert_allclose(sae.cfg.normalisation["mean"], ROWS.mean(0), rtol=1e-5)
    assert np.linalg.norm(sae.cfg.normalisation["mean"]) > 5, "the mean is that of the rows as they were"
    save_sae(tmp_path, sae, history)
    again = load_sae(tmp_path)
    assert again.row_norm == "layer_norm"
    assert torch.equal(again(x), sae(x))


def test_none_is_what_nothing_is():
    plain = settings_of("topk")
    assert settings_of("topk", row_norm="none") == plain
    assert "row_norm" not in plain


def test_refused_settings():
    with refused("transcoder", "row_norm layer_norm"):
        settings_of("transcoder", row_norm="layer_norm")
    with refused("row_norm"):
        settings_of("topk", row_norm="layernorm")


@pytest.mark.parametrize("kind", ROW_NORMS)
def test_evaluation_is_in_the_rows_own_units(kind):
    sae = random_sae(kind)
    x = np.random.default_rng(0).normal(1, 3, size=(200, 6)).astype(np.float32)
    found = row_table(sae, x, batch_rows=64)
    rows = torch.from_numpy(x)
    np.testing.assert_allclose(found.error, (sae(rows) - rows).square().sum(1).numpy(), rtol=1e-4, atol=1e-4)
    f = sae.encode(rows)
    np.testing.assert_array_equal(found.nonzero, (f != 0).sum(1).numpy())
    inside = scales_of(kind, rows).into(rows)
    loss = (sae.decode(f) - inside).square().sum(1) + (f * sae.W_dec.norm(dim=1)).sum(1)
    np.testing.assert_allclose(found.loss, loss.numpy(), rtol=1e-4)


def test_the_best_of_training_lowers_the_evaluated_loss():
    settings = settings_of("topk", 24, **SHORT | {"steps": 300}, row_norm="layer_norm")
    sae, history = train(ROWS, settings, seed=0)
    found = row_table(sae, ROWS)
    assert 1 - found.error.sum() / found.spread.sum() > 0.5
    np.testing.assert_allclose(found.loss.mean(), history[-1]["loss"], rtol=0.2)
    assert resolve(settings) == sae.cfg.settings
