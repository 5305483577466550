"""The losses by hand, and every hand-written gradient against a naive float64 formula."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_cases import OWN, make, memory_of, random_parameters, random_rows, settings_of, torch_threads
from support import refused

from policylens.sae import active
from policylens.sae.architecture import Architecture
from policylens.sae.architectures import REGISTRY, build
from policylens.sae.member import Member
from policylens.sae.parallel import over_range
from policylens.sae.settings import ARCHITECTURES, DEFAULTS, prefix_widths, resolve, schema
from policylens.sae.sparse_gradients import comparable


def gradients_of(sae, p, x, memory, target=None):
    into = {name: torch.full_like(tensor, 7.0) for name, tensor in p.items()}
    terms = sae.gradients(p, x, x if target is None else target, into, memory, 1.0)
    return terms, into


def naive(p, x, loss):
    """Value and gradient of a formula in float64."""
    exact = {name: tensor.double().clone().requires_grad_() for name, tensor in p.items()}
    value = loss(exact, x.double())
    return value.detach(), dict(zip(exact, torch.autograd.grad(value, list(exact.values())), strict=True))


def standard_loss(p, x, weight):
    total = 0.0
    for row in x:
        f = (row @ p["W_enc"] + p["b_enc"]).clamp(min=0)
        error = row - sum(f[i] * p["W_dec"][i] for i in range(len(f))) - p["b_dec"]
        total = total + (error**2).sum() + weight * sum(f[i] * (p["W_dec"][i] ** 2).sum() ** 0.5 for i in range(len(f)))
    return total / len(x)


def topk_loss(p, x, k, dead=(), weight=0.0, k_dead=0):
    total = 0.0
    for row in x:
        a = row @ p["W_enc"] + p["b_enc"]
        kept = [int(i) for i in a.argsort(descending=True)[:k] if a[i] > 0]
        error = row - sum((a[i] * p["W_dec"][i] for i in kept), torch.zeros_like(row)) - p["b_dec"]
        total = total + (error**2).sum()
        spare = sorted((i for i in dead if a[i] > 0), key=lambda i: -a[i])[:k_dead]
        if len(dead):
            rest = error.detach() - sum((a[i] * p["W_dec"][i] for i in spare), torch.zeros_like(row))
            total = total + weight * (rest**2).sum()
    return total / len(x) / x.shape[1]


def assert_gradients(got, wanted, tolerance=2e-6):
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max()) + 1e-12
        torch.testing.assert_close(got[name].double() / scale, gradient / scale, rtol=0, atol=tolerance)


def test_standard_loss_by_hand():
    sae = make("standard", latents=2, sparsity=2.0)
    p = {
        "W_enc": torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        "b_enc": torch.tensor([0.5, 0.0]),
        "W_dec": torch.tensor([[3.0, 4.0], [0.0, 2.0]]),
        "b_dec": torch.tensor([0.0, 1.0]),
    }
    # Row (1, 2): a = (1.5, -2), f = (1.5, 0), x_hat = (4.5, 7), error = 3.5^2 + 5^2 = 37.25, penalty = 1.5 * 5 = 7.5.
    # Row (-1, -1): a = (-.5, 1), f = (0, 1), x_hat = (0, 3), error = 1 + 16 = 17, penalty = 1 * 2 = 2.
    x = torch.tensor([[1.0, 2.0], [-1.0, -1.0]])
    terms = sae.loss(p, x, x, {}, 1.0)
    assert float(terms.reconstruction) == pytest.approx((37.25 + 17) / 2)
    assert float(terms.sparsity) == pytest.approx((7.5 + 2) / 2)
    assert float(terms.loss) == pytest.approx(27.125 + 2.0 * 4.75)


def test_topk_loss_by_hand():
    sae = make("topk", latents=3, k=1)
    p = {
        "W_enc": torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]),
        "b_enc": torch.tensor([0.0, -1.0, 0.0]),
        "W_dec": torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]),
        "b_dec": torch.tensor([0.5, 0.0]),
    }
    # Row (2, 1): a = (2, 4, -1), kept 4, x_hat = (2.9, 3.2), error = .81 + 4.84 = 5.65.
    # Row (-1, 1): a = (-1, -2, -1), none is positive, x_hat = (.5, 0), error = 2.25 + 1 = 3.25.
    x = torch.tensor([[2.0, 1.0], [-1.0, 1.0]])
    terms = sae.loss(p, x, x, sae.initial_memory(), 1.0)
    assert float(terms.reconstruction) == pytest.approx((5.65 + 3.25) / 2)
    assert float(terms.loss) == pytest.approx((5.65 + 3.25) / 4)


def test_standard_initialisation():
    sae = make("standard", latents=4000)
    p = sae.initial(6, 6, torch.Generator().manual_seed(0))
    norms = p["W_dec"].norm(dim=1)
    assert 0.05 <= float(norms.min()) < 0.06
    assert 0.99 < float(norms.max()) <= 1.0
    assert float(norms.mean()) == pytest.approx(0.525, abs=0.02)
    assert torch.equal(p["W_enc"], p["W_dec"].T)
    assert not p["b_enc"].any()
    assert not p["b_dec"].any()


@pytest.mark.parametrize("rows", [1, 37, 300])
def test_standard_gradient(rows):
    sae = make("standard")
    p, x = random_parameters(sae), random_rows(rows, 5, seed=rows)
    sae.tile_rows = lambda x: 256  # several tiles, the last one short
    terms, got = gradients_of(sae, p, x, {})
    value, wanted = naive(p, x, lambda p, x: standard_loss(p, x, 0.7))
    assert float(terms.loss) == pytest.approx(float(value), rel=1e-6)
    assert_gradients(got, wanted)


@pytest.mark.parametrize("dead", [(), (1, 4, 7)])
def test_topk_gradient(dead):
    sae = make("topk", auxiliary_weight=0.5, auxiliary_k=2, dead_after_rows=10)
    p, x = random_parameters(sae), random_rows(300, 5, seed=1)
    sae.tile_rows = lambda x: 128
    memory = memory_of(sae, dead)
    dense = sae.loss(p, x, x, memory, 1.0)
    terms, got = gradients_of(sae, p, x, memory)
    value, wanted = naive(p, x, lambda p, x: topk_loss(p, x, 3, dead, 0.5, 2))
    assert float(dense.loss) == pytest.approx(float(value), rel=1e-6)
    for mine, reference in zip(terms[:3], dense[:3], strict=True):
        assert float(mine) == pytest.approx(float(reference), rel=1e-6)
    assert torch.equal(terms.fired, dense.fired)
    assert_gradients(got, wanted)


def test_rows_since_a_latent_fired_are_counted():
    member = Member(settings_of("topk", 4, k=1, learning_rate=1e-9), 2, 0, "cpu")
    member.parameters["W_enc"].zero_()
    member.parameters["b_enc"].copy_(torch.tensor([-1.0, 2.0, 1.0, -1.0]))
    for _ in range(3):
        member.update(torch.randn(10, 2))
    assert member.memory["rows_since_active"].tolist() == [30, 0, 30, 30]


@pytest.mark.parametrize("architecture", ["standard", "topk", "transcoder"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_differentiating_the_formula_gives_the_same(architecture, precision):
    """What every device without a loop of its own uses."""
    sae = make(architecture, precision=precision)
    p, x = random_parameters(sae), random_rows(50, 5)
    _, fast = gradients_of(sae, p, x, sae.initial_memory())
    into = {name: torch.zeros_like(tensor) for name, tensor in p.items()}
    Architecture.gradients(sae, p, x, x, into, sae.initial_memory(), 1.0)
    assert_gradients(fast, {name: g.double() for name, g in into.items()}, 3e-6 if precision == "float32" else 0.15)


@pytest.mark.parametrize("architecture", [name for name in OWN if "sparsity_warmup" in DEFAULTS[name]])
def test_warmup_of_the_sparsity(architecture):
    sae = make(architecture, sparsity=2.0, sparsity_warmup=0.5)
    assert [sae.weight(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("architecture", ["plain_l1", "tied", "topk", "batch_topk", "matryoshka", "jumprelu", "gated"])
def test_unit_norm_decoder_stays_and_its_gradient_is_tangent(architecture):
    sae = make(architecture)
    p = random_parameters(sae)
    into = {name: torch.randn_like(tensor) for name, tensor in p.items()}
    sae.project(p, into)
    torch.testing.assert_close((into["W_dec"] * p["W_dec"]).sum(1), torch.zeros(12), atol=1e-6, rtol=0)
    p["W_dec"].mul_(3)
    sae.constrain(p)
    torch.testing.assert_close(p["W_dec"].norm(dim=1), torch.ones(12))


@given(
    rows=st.integers(1, 6),
    width=st.integers(1, 200),
    k=st.integers(1, 70),
    levels=st.sampled_from([3, 100]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_largest_is_exact_with_ties(rows, width, k, levels, dtype, seed):
    k = min(k, width)
    dense = np.random.default_rng(seed).integers(-levels, levels, (rows, width)).astype(np.float32)
    latents, counts = np.empty((rows, k), np.int32), np.empty(rows, np.int32)
    active.largest(comparable(torch.from_numpy(dense).to(dtype)), latents, counts)
    for r in range(rows):
        wanted = np.sort(dense[r][dense[r] > 0])[::-1][:k]
        taken = latents[r, : counts[r]]
        assert np.sort(dense[r][taken])[::-1].tolist() == wanted.tolist()
        assert len(set(taken.tolist())) == len(taken)


def test_loops_add_up_the_same_on_any_number_of_threads():
    """To the bit with the same number; in another order with another."""
    results = []
    for threads in (1, 3, 3):
        with torch_threads(threads):
            sae = make("topk")
            p, x = random_parameters(sae), random_rows(100, 5)
            results.append(gradients_of(sae, p, x, sae.initial_memory())[1])
    for name, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][name], atol=1e-6), name
        assert torch.equal(results[1][name], results[2][name]), name


def test_over_range_passes_on_what_goes_wrong():
    def loop(start, stop):
        raise ValueError(f"{start} to {stop}")

    with torch_threads(2), pytest.raises(ValueError, match="0 to 5"):
        over_range(loop, 10)


def test_settings_are_filled_in_and_checked():
    filled = resolve({"architecture": "standard", "latents": 8, "sparsity": 1, "steps": 3})
    assert filled["steps"] == 3
    assert (filled["batch_rows"], filled["learning_rate"], filled["gradient_clip"]) == (16384, 1e-4, 1.0)
    assert (filled["centre"], filled["sampling"], filled["active_threshold"]) == (False, "replacement", 0.1)
    assert sorted(REGISTRY) == list(ARCHITECTURES)
    for name in ARCHITECTURES:
        assert DEFAULTS[name].keys() < schema(name)["properties"].keys()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"architecture": "TopK", "latents": 4}, ["'TopK' is not known", "did you mean 'topk'?", "gated, jumprelu"]),
        ({"architecture": "gate", "latents": 4}, ["did you mean 'gated'?"]),
        ({"architecture": "x", "latents": 4}, ["'x' is not known; there are: batch_topk"]),
        ({"latents": 4}, ["None is not known"]),
        ({"architecture": "topk", "latents": 4, "k": 5}, ["k is 5", "4 latents"]),
        ({"architecture": "topk", "latents": 4}, ["'k' is missing"]),
        ({"architecture": "topk", "latents": 4, "k": 2, "sparsty": 1}, ["sparsty"]),
        ({"architecture": "standard", "latents": 0, "sparsity": 1}, ["latents", "0"]),
        (
            {"architecture": "standard", "latents": 4, "sparsity": -1},
            ["sparsity is -1; it must be a number, at least 0"],
        ),
        ({"architecture": "gated", "latents": 4, "sparsity": float("nan")}, ["sparsity is nan", "finite"]),
        ({"architecture": "tied", "latents": 4, "sparsity": 1, "output_site": "b"}, ["tied", "output_site"]),
        ({"architecture": "transcoder", "latents": 4, "sparsity": 1}, ["'output_site' is missing"]),
        ({"architecture": "matryoshka", "latents": 4, "k": 1, "prefixes": [2, 5]}, ["[2, 5]", "4 latents"]),
        ({"architecture": "matryoshka", "latents": 4, "k": 1, "prefixes": [3, 0.25]}, ["must rise"]),
        ({"architecture": "matryoshka", "latents": 4, "k": 1, "prefixes": [1.5]}, ["whole number"]),
        ({"architecture": "batch_topk", "latents": 4, "k": 5}, ["k is 5"]),
        ({"architecture": "standard", "latents": 4, "sparsity": 1, "gradient_clip": 0}, ["gradient_clip"]),
    ],
)
def test_bad_settings_are_refused(settings, parts):
    with refused("the sweep", *parts):
        resolve(settings, "the sweep")


def test_prefixes_are_widths_or_shares():
    default = resolve({"architecture": "matryoshka", "latents": 65536, "k": 8})
    assert prefix_widths(default) == [2048, 6144, 14336, 30720, 65536]
    assert prefix_widths(default | {"latents": 8}) == [1, 2, 4, 8]
    assert prefix_widths({"latents": 10, "prefixes": [0.2, 5]}) == [2, 5, 10]


def test_an_architecture_that_is_not_known_is_not_built():
    with refused("did you mean 'jumprelu'"):
        build({"architecture": "jump_relu"})
