"""What every architecture's tensors survive: folding, unfolding, finishing, going on; and its use as a convolution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_cases import OWN, make, memory_of, random_parameters, random_rows, settings_of
from support import refused

from policylens.sae.base import SAE, SAEConfig
from policylens.sae.files import load_sae, save_sae
from policylens.sae.normalisation import Normalisation, fold, unfold


def finished_of(sae, d_in=5, d_out=None, seed=0):
    """A finished SAE's tensors in float64."""
    tensors = sae.finish(random_parameters(sae, d_in, d_out, seed), memory_of(sae))
    if sae.settings["architecture"] in ("batch_topk", "matryoshka"):
        tensors["threshold"] = torch.tensor(0.4)
    return {name: tensor.double() for name, tensor in tensors.items()}


def normalisation(d, seed, centre=True):
    rng = np.random.default_rng(seed)
    return Normalisation(torch.from_numpy(rng.normal(0, 3, d).astype(np.float32)), centre, float(rng.uniform(0.1, 9)))


def sae_of(architecture, tensors, **more):
    d_in, m = tensors["W_enc"].shape
    settings = settings_of(architecture, m, **more)
    d_out = tensors["W_dec"].shape[1]
    record = {"centre": True, "scale": 0.5, "mean": [0.0] * d_out}
    return SAE(SAEConfig(architecture, d_in, m, d_out, settings, record, 0.0, seed=0), tensors)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(
    ("architecture", "d_out"), [*((name, 5) for name in OWN), *((name, 3) for name in OWN if name != "tied")]
)
def test_a_folded_sae_is_the_same_function_of_raw_rows(architecture, d_out, centre):
    sae = make(architecture)
    exact, before = finished_of(sae, 5, d_out), normalisation(5, 1, centre)
    after = before if d_out == 5 else normalisation(3, 2, centre)
    raw = random_rows(60, 5).double() * 4 + 1
    folded = fold(exact, before, after, sae.biases(exact))
    f = sae.encode(exact, before.apply(raw))
    assert 0 < (f != 0).float().mean() <= 1
    torch.testing.assert_close(sae.encode(folded, raw), f, rtol=1e-10, atol=1e-10)
    back = sae.decode(exact, f) / after.scale + after.shift.double()
    torch.testing.assert_close(sae.decode(folded, sae.encode(folded, raw)), back, rtol=1e-10, atol=1e-10)


@given(
    architecture=st.sampled_from(sorted(OWN)),
    d=st.integers(1, 7),
    m=st.integers(3, 20),
    centre=st.booleans(),
    seed=st.integers(0, 999),
)
def test_unfolding_undoes_folding(architecture, d, m, centre, seed):
    sae = make(architecture, m)
    exact, one = finished_of(sae, d, None, seed), normalisation(d, seed, centre)
    back = unfold(fold(exact, one, one, sae.biases(exact)), one, one, sae.biases(exact))
    assert back.keys() == exact.keys()
    for name, tensor in exact.items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", OWN)
def test_restart_undoes_finish(architecture):
    sae = make(architecture)
    p = random_parameters(sae)
    finished = sae.finish(p, memory_of(sae))
    before = {name: tensor.clone() for name, tensor in p.items()}
    again = sae.restart(finished)
    assert again.keys() == p.keys()
    for name, tensor in again.items():
        torch.testing.assert_close(tensor, p[name], rtol=1e-6, atol=1e-6)
        tensor.add_(1)
        assert torch.equal(p[name], before[name]), "going on must not change what it started from"


@pytest.mark.parametrize("architecture", ["batch_topk", "matryoshka"])
def test_a_threshold_is_gone_on_from(architecture):
    sae = make(architecture)
    finished = sae.finish(random_parameters(sae), memory_of(sae, threshold=1.25))
    assert float(sae.initial_memory(finished)["threshold"]) == pytest.approx(1.25)
    assert float(sae.initial_memory()["threshold"]) == 0
    longer = finished | {"W_dec": 3 * finished["W_dec"]}
    p, memory, x = sae.restart(longer), sae.initial_memory(longer), random_rows(40, 5)
    torch.testing.assert_close(
        sae.decode(p, sae.encode(sae.finish(p, memory), x)), sae.decode(longer, sae.encode(longer, x))
    )
    uneven = finished | {"W_dec": finished["W_dec"] * torch.linspace(0.2, 3, 12).unsqueeze(1)}
    assert float(sae.initial_memory(uneven)["threshold"]) == 0, "the first batch sets it"


@pytest.mark.parametrize("architecture", ["plain_l1", "jumprelu", "gated"])
def test_restart_brings_a_foreign_decoder_to_norm_one_and_keeps_the_function(architecture):
    sae = make(architecture)
    foreign = finished_of(sae)
    foreign["W_dec"] *= torch.linspace(0.2, 3, 12).double().unsqueeze(1)
    p, x = sae.restart(foreign), random_rows(40, 5).double()
    torch.testing.assert_close(p["W_dec"].norm(dim=1), torch.ones(12).double())
    torch.testing.assert_close(sae.decode(p, sae.encode(p, x)), sae.decode(foreign, sae.encode(foreign, x)))


def test_a_tied_sae_cannot_go_on_from_one_that_is_not_tied():
    sae = make("tied")
    finished = sae.finish(random_parameters(sae), {})
    with refused("tied", "transpose"):
        sae.restart(finished | {"W_enc": finished["W_enc"] + 0.1})


@pytest.mark.parametrize("architecture", OWN)
def test_shapes_are_those_of_a_finished_sae(architecture):
    d_out = 5 if architecture == "tied" else 3
    sae = make(architecture)
    tensors = finished_of(sae, 5, d_out)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == sae.shapes(5, d_out)


@pytest.mark.parametrize("architecture", OWN)
def test_saved_and_loaded(tmp_path, architecture):
    tensors = {name: tensor.float().contiguous() for name, tensor in finished_of(make(architecture)).items()}
    sae = sae_of(architecture, tensors)
    save_sae(tmp_path, sae)
    loaded, x = load_sae(tmp_path), random_rows(20, 5)
    assert torch.equal(loaded(x), sae(x))
    assert loaded.to(dtype=torch.float64)(x.double()).dtype is torch.float64


@pytest.mark.parametrize("architecture", OWN)
def test_over_positions_an_sae_is_a_convolution_of_size_one(architecture):
    tensors = {name: tensor.float() for name, tensor in finished_of(make(architecture)).items()}
    sae, image = sae_of(architecture, tensors), random_rows(2 * 4 * 3, 5).view(2, 4, 3, 5)
    f = sae.encode(image)
    flat = sae.encode(image.reshape(-1, 5))
    torch.testing.assert_close(f.view(-1, 12), flat)
    decoder = tensors["W_dec"].T[..., None, None].contiguous()
    decoded = torch.nn.functional.conv2d(f.permute(0, 3, 1, 2), decoder, tensors["b_dec"])
    torch.testing.assert_close(sae(image).permute(0, 3, 1, 2), decoded, rtol=1e-5, atol=1e-5)
    if "b_enc" in tensors:
        encoder = tensors["W_enc"].T[..., None, None].contiguous()
        a = torch.nn.functional.conv2d(image.permute(0, 3, 1, 2), encoder, tensors["b_enc"]).permute(0, 2, 3, 1)
        on = f != 0
        torch.testing.assert_close(f[on], a[on], rtol=1e-5, atol=1e-5)
        if architecture in ("standard", "plain_l1", "tied", "transcoder"):
            assert torch.equal(on, a > 0)


def test_a_gated_sae_says_which_biases_it_has():
    sae = sae_of("gated", {name: tensor.float() for name, tensor in finished_of(make("gated")).items()})
    assert not hasattr(sae, "b_enc")
    with pytest.raises(AttributeError, match="gated SAE has no b_enc; its biases are b_.*b_gate, b_mag"):
        _ = sae.b_enc
    assert sae_of("topk", finished_of(make("topk"))).b_enc.shape == (12,)
