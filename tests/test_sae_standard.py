"""The standard SAE whose encoder takes x - b_dec in training: the same functions, kept in the usual form."""

import pytest
import torch
from sae_cases import make, random_parameters, random_rows

from policylens.sae.training import train


@pytest.fixture
def sae():
    return make("standard", subtract_b_dec=True)


def test_the_finished_sae_takes_the_input_as_it_is(sae):
    p, x = random_parameters(sae), random_rows(40, 5)
    finished = sae.finish(p, {})
    expected = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
    assert torch.allclose(sae.encode(finished, x), expected, atol=1e-6)
    assert not torch.allclose(finished["b_enc"], p["b_enc"], atol=1e-2)


def test_training_goes_on_from_a_finished_sae(sae):
    p = random_parameters(sae)
    again = sae.restart(sae.finish(p, {}))
    for name, tensor in p.items():
        assert torch.allclose(again[name], tensor, atol=1e-6), name


def test_latents_that_start_anew_are_silent_at_the_centre(sae):
    p, dead, centre = random_parameters(sae), torch.tensor([1, 4]), torch.randn(5)
    sae.revive(p, dead, torch.randn(2, 5), torch.eye(5)[:2], centre)
    finished = sae.finish(p, {})
    a = centre @ finished["W_enc"] + finished["b_enc"]
    assert torch.allclose(a[dead], torch.zeros(2), atol=1e-5)
    assert a.abs().max() > 0.1


def test_it_learns_another_way_from_the_same_start():
    """The first step already differs, and both explain the rows."""
    rows = random_rows(512, 6).numpy() + 3
    common = {"architecture": "standard", "latents": 24, "sparsity": 0.01, "steps": 300, "batch_rows": 64}
    found = [train(rows, common | {"subtract_b_dec": subtract, "learning_rate": 0.01}, 0) for subtract in (False, True)]
    (plain, _), (subtracted, history) = found
    assert not torch.allclose(plain.tensors["b_enc"], subtracted.tensors["b_enc"], atol=1e-3)
    assert history[-1]["reconstruction"] < 0.1 * history[0]["reconstruction"]


def test_norms_begin_where_they_are_asked_to():
    generator = torch.Generator().manual_seed(0)
    norms = make("standard", latents=200, initial_norms=[0.2, 0.4]).initial(6, 6, generator)["W_dec"].norm(dim=1)
    assert 0.2 <= norms.min() < 0.25
    assert 0.35 < norms.max() <= 0.4
    same = make("standard", initial_norms=[0.1, 0.1]).initial(6, 6, generator)["W_dec"].norm(dim=1)
    assert torch.allclose(same, torch.full_like(same, 0.1))
