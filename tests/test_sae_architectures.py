"""Every architecture's loss by hand, and its gradient against a naive formula in float64."""

import math

import pytest
import torch
from sae_cases import OWN, make, memory_of, random_parameters, random_rows

from policylens.sae.architectures import REGISTRY

X = torch.tensor([[2.0, 1.0], [1.0, -3.0]])


def by_hand(**more):
    """Three latents whose pre-activations are (2, 4, -1) for the first row of X and (1, -2, 3) for the second."""
    return {
        "W_enc": torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]),
        "b_enc": torch.tensor([0.0, -1.0, 0.0]),
        "W_dec": torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]),
        "b_dec": torch.tensor([0.5, 0.0]),
        **more,
    }


def terms_of(sae, p, target=X, **memory):
    terms = sae.loss(p, X, target, memory_of(sae, **memory), 1.0)
    return [float(value) for value in terms[:3]], terms


def test_plain_l1_by_hand():
    # f = (2, 4, 0) and (1, 0, 3); x_hat = (4.9, 3.2) and (1.5, 3); errors 8.41 + 4.84 and 0.25 + 36.
    values, terms = terms_of(make("plain_l1", latents=3, sparsity=2.0), by_hand())
    assert values == pytest.approx([24.75 / 2 + 2 * 5 / 3, 24.75, 5 / 3])
    assert terms.fired.tolist() == [True, True, True]


def test_tied_by_hand():
    # a = (2, 1) for the row (2, 1); x_hat = (2 + .6 + .5, .8); error 1.21 + .04.
    sae = make("tied", latents=2, sparsity=2.0)
    p = {name: tensor[:2] for name, tensor in by_hand().items() if name != "W_enc"}
    x = X[:1]
    terms = sae.loss(p, x, x, memory_of(sae), 1.0)
    assert [float(value) for value in terms[:3]] == pytest.approx([1.25 + 2 * 3, 1.25, 3])


def test_linear_by_hand():
    # z = (2, 4, -1) and (1, -2, 3), x_hat = (4.9, 2.2) and (.3, 1.4), errors 9.85 and 19.85, mean |z| 7/3 and 2.
    sae = make("linear", latents=3, active_threshold=1.5, sparsity_target=0.5, target_rate=0.3)
    values, terms = terms_of(sae, by_hand(), sparsity_weight=2.0)
    assert values == pytest.approx([14.85 / 2 + 2 * 13 / 6, 14.85, 13 / 6])
    # Above 1.5 are 4 of 6, a third more than the target of a half.
    assert float(terms.remembered["sparsity_weight"]) == pytest.approx(2 * math.exp(0.1))
    fixed = make("linear", latents=3, sparsity_target=None)
    assert float(terms_of(fixed, by_hand(), sparsity_weight=2.0)[1].remembered["sparsity_weight"]) == 2


def test_batch_topk_by_hand():
    # The two largest of the batch are 4 and 3; x_hat = (2.9, 3.2) and (.5, 3); errors 5.65 and 36.25.
    sae = make("batch_topk", latents=3, k=1, threshold_decay=0.9)
    values, terms = terms_of(sae, by_hand())
    assert values == pytest.approx([20.95 / 2, 20.95, 3.5])
    assert terms.fired.tolist() == [False, True, True]
    assert float(terms.remembered["threshold"]) == 3
    later = terms_of(sae, by_hand(), threshold=2.0)[1]
    assert float(later.remembered["threshold"]) == pytest.approx(0.9 * 2 + 0.1 * 3)


def test_batch_topk_gives_a_row_more_where_it_needs_more():
    sae = make("batch_topk", latents=3, k=1)
    x = torch.tensor([[2.0, 1.0], [0.0, 0.0]])
    terms = sae.loss(by_hand(), x, x, memory_of(sae), 1.0)
    assert terms.fired.tolist() == [True, True, False]
    assert float(terms.sparsity) == 3
    nothing = sae.loss(by_hand(b_enc=torch.full((3,), -9.0)), x, x, memory_of(sae, threshold=2.0), 1.0)
    assert float(nothing.remembered["threshold"]) == 2
    assert not nothing.fired.any()


def test_a_finished_batch_topk_encodes_each_row_by_its_threshold():
    sae = make("batch_topk", latents=3, k=1)
    finished = sae.finish(by_hand(), memory_of(sae, threshold=2.0))
    assert sae.encode(finished, X).tolist() == [[0, 4, 0], [0, 0, 3]]
    assert sae.encode(finished, X[1:]).tolist() == [[0, 0, 3]]


def test_matryoshka_by_hand():
    # Kept are 4 (latent 2 of 3) and 3 (latent 3). Prefix 1: x_hat = b_dec, errors 3.25 and 9.25. Prefix 2: 5.65 and
    # 9.25. All: 5.65 and 36.25.
    sae = make("matryoshka", latents=3, k=1, prefixes=[1 / 3, 2])
    values, terms = terms_of(sae, by_hand())
    assert values == pytest.approx([(6.25 + 7.45 + 20.95) / 2, 20.95, 3.5])
    assert float(terms.remembered["threshold"]) == 3


def test_jumprelu_by_hand():
    # Thresholds (1.5, 1, 3.5): f = (2, 4, 0) and nothing; errors 13.25 and 9.25; two active and none.
    p = by_hand(threshold=torch.tensor([1.5, 1.0, 3.5]))
    sae = make("jumprelu", latents=3, sparsity=2.0)
    values, terms = terms_of(sae, p)
    assert values == pytest.approx([11.25 + 2, 11.25, 1])
    assert terms.fired.tolist() == [True, True, False]
    # ReLU(theta - a) sums to 4.5 and to .5 + 3 + .5.
    pulled = make("jumprelu", latents=3, sparsity=2.0, preactivation_weight=0.1)
    assert terms_of(pulled, p)[0][0] == pytest.approx(13.25 + 0.1 * 4.25)
    smooth = make("jumprelu", latents=3, sparsity=2.0, penalty="tanh")
    assert terms_of(smooth, p)[0][2] == pytest.approx((math.tanh(8) + math.tanh(16)) / 2)


def test_gated_by_hand():
    # Gates (2, 4, -1) and (1, -2, 3); magnitudes (3, 10, 0) and (2, 0, 3); x_hat = (9.5, 8) and (2.5, 3), errors 105.25
    # and 38.25; by the gates alone 13.25 and 36.25.
    p = by_hand(b_gate=torch.tensor([0.0, -1.0, 0.0]), b_mag=torch.tensor([1.0, 0.0, 0.0]))
    p["r_mag"] = torch.tensor([0.0, math.log(2), 0.0])
    del p["b_enc"]
    values, _ = terms_of(make("gated", latents=3, sparsity=2.0), p)
    assert values == pytest.approx([71.75 + 2 * 5 + 24.75, 71.75, 5])


def test_transcoder_by_hand():
    # y_hat = (4.9, 3.2) and (1.5, 3) for the targets (3, 2) and (0, 0).
    target = torch.tensor([[3.0, 2.0], [0.0, 0.0]])
    values, _ = terms_of(make("transcoder", latents=3, sparsity=2.0), by_hand(), target)
    assert values == pytest.approx([8.15 + 2 * 5, 8.15, 5])


# Gradients


def error_of(p, f, y):
    return y - f @ p["W_dec"] - p["b_dec"]


def relu_codes(p, x):
    return (x @ p["W_enc"] + p["b_enc"]).clamp(min=0)


def naive_plain_l1(p, x, y, sae, dead):
    f = relu_codes(p, x)
    return (error_of(p, f, y) ** 2).mean() + sae.settings["sparsity"] * f.mean()


def naive_standard(p, x, y, sae, dead):
    f = relu_codes(p, x)
    penalty = (f * (p["W_dec"] ** 2).sum(1).sqrt()).sum() / len(x)
    return (error_of(p, f, y) ** 2).sum() / len(x) + sae.settings["sparsity"] * penalty


def naive_linear(p, x, y, sae, dead):
    z = x @ p["W_enc"] + p["b_enc"]
    penalty = (z.abs() * (p["W_dec"] ** 2).sum(1).sqrt()).mean()
    return (error_of(p, z, y) ** 2).mean() + sae.settings["sparsity"] * penalty


def naive_tied(p, x, y, sae, dead):
    f = (x @ p["W_dec"].T + p["b_enc"]).clamp(min=0)
    return (error_of(p, f, y) ** 2).sum() / len(x) + sae.settings["sparsity"] * f.sum() / len(x)


def naive_auxiliary(p, x, error, sae, dead):
    total = 0.0
    for row, rest in zip(x, error.detach(), strict=True):
        a = row @ p["W_enc"] + p["b_enc"]
        helpers = sorted((i for i in dead if a[i] > 0), key=lambda i: -a[i])[: sae.settings["auxiliary_k"]]
        total = total + ((rest - sum((a[i] * p["W_dec"][i] for i in helpers), 0 * rest)) ** 2).mean()
    return sae.settings["auxiliary_weight"] * total / len(x) if len(dead) else 0.0


def batch_codes(p, x, k):
    a = x @ p["W_enc"] + p["b_enc"]
    order = a.detach().flatten().argsort(descending=True)[: len(x) * k]
    kept = torch.zeros(a.numel(), dtype=torch.bool)
    kept[order] = True
    return torch.where(kept.view_as(a) & (a > 0), a, 0.0)


def naive_topk(p, x, y, sae, dead):
    a = x @ p["W_enc"] + p["b_enc"]
    kept = a.argsort(dim=1, descending=True).argsort(dim=1) < sae.settings["k"]
    error = error_of(p, torch.where(kept & (a > 0), a, 0.0), y)
    return (error**2).mean() + naive_auxiliary(p, x, error, sae, dead)


def naive_batch_topk(p, x, y, sae, dead):
    error = error_of(p, batch_codes(p, x, sae.settings["k"]), y)
    return (error**2).mean() + naive_auxiliary(p, x, error, sae, dead)


def naive_matryoshka(p, x, y, sae, dead):
    f = batch_codes(p, x, sae.settings["k"])
    errors = [error_of(p, torch.where(torch.arange(12) < width, f, 0.0), y) for width in (3, 6, 12)]
    return sum((error**2).mean() for error in errors) + naive_auxiliary(p, x, errors[-1], sae, dead)


def naive_gated(p, x, y, sae, dead):
    gate = x @ p["W_enc"] + p["b_gate"]
    magnitude = (p["r_mag"].exp() * (x @ p["W_enc"]) + p["b_mag"]).clamp(min=0)
    fixed = {name: tensor.detach() for name, tensor in p.items()}
    squares = (error_of(p, torch.where(gate > 0, magnitude, 0.0), y) ** 2).sum()
    squares = squares + (error_of(fixed, gate.clamp(min=0), y) ** 2).sum()
    return (squares + sae.settings["sparsity"] * gate.clamp(min=0).sum()) / len(x)


NAIVE = {
    "standard": naive_standard,
    "plain_l1": naive_plain_l1,
    "linear": naive_linear,
    "tied": naive_tied,
    "topk": naive_topk,
    "batch_topk": naive_batch_topk,
    "gated": naive_gated,
    "matryoshka": naive_matryoshka,
    "transcoder": naive_standard,
}


UNTIED = [name for name in NAIVE if name != "tied"]


def gradients_of(sae, p, x, y, memory):
    into = {name: torch.full_like(tensor, 7.0) for name, tensor in p.items()}
    return sae.gradients(p, x, y, into, memory, 1.0), into


def assert_close(got, wanted, tolerance=2e-6):
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max()) + 1e-12
        torch.testing.assert_close(got[name].double() / scale, gradient / scale, rtol=0, atol=tolerance)


def test_every_architecture_is_tested():
    assert sorted(NAIVE.keys() | {"jumprelu"}) == sorted(OWN) == sorted(REGISTRY)


@pytest.mark.parametrize("dead", [(), (1, 4, 7, 9)])
@pytest.mark.parametrize(("architecture", "d_out"), [*((name, 5) for name in NAIVE), *((name, 4) for name in UNTIED)])
def test_gradient(architecture, dead, d_out):
    helped = {"auxiliary_k": 2, "auxiliary_weight": 0.5} if "k" in OWN[architecture] else {}
    sae = make(architecture, **helped)
    p, x = random_parameters(sae, 5, d_out), random_rows(100, 5)
    y = x if d_out == 5 else random_rows(100, d_out, seed=1)
    terms, got = gradients_of(sae, p, x, y, memory_of(sae, dead))
    exact = {name: tensor.double().requires_grad_() for name, tensor in p.items()}
    value = NAIVE[architecture](exact, x.double(), y.double(), sae, dead)
    wanted = dict(zip(exact, torch.autograd.grad(value, list(exact.values())), strict=True))
    assert float(terms.loss) == pytest.approx(float(value.detach()), rel=1e-6)
    assert_close(got, wanted)


@pytest.mark.parametrize(
    "more",
    [{}, {"surrogate": "all"}, {"penalty": "tanh"}, {"preactivation_weight": 0.2}],
    ids=["paper", "all", "tanh", "preactivation"],
)
@pytest.mark.parametrize("d_out", [5, 4])
def test_jumprelu_pseudo_gradient(more, d_out):
    sae = make("jumprelu", bandwidth=0.4, **more)
    p, x = random_parameters(sae, 5, d_out), random_rows(200, 5)
    y = x if d_out == 5 else random_rows(200, d_out, seed=1)
    _, got = gradients_of(sae, p, x, y, memory_of(sae))
    wanted, near = jumprelu_gradient(
        {name: t.double() for name, t in p.items()}, x.double(), y.double(), 0.4, 0.7, more
    )
    assert near > 0.05
    assert_close(got, wanted)


def jumprelu_gradient(p, x, y, width, weight, more):
    """By the chain rule, with -theta/eps K for d f / d theta and -1/eps K for d H / d theta."""
    n, theta = len(x), p["threshold"]
    a = x @ p["W_enc"] + p["b_enc"]
    on = (a > theta).double()
    f, near = a * on, ((a - theta).abs() < width / 2).double()
    error = f @ p["W_dec"] + p["b_dec"] - y
    d_f, d_step = 2 / n * error @ p["W_dec"].T, torch.zeros_like(a)
    if more.get("penalty") == "tanh":
        d_f = d_f + weight / n * 4 * (1 - torch.tanh(4 * f) ** 2)
    else:
        d_step = d_step + weight / n
    towards_theta = -(theta * d_f + d_step) * near / width
    d_a = d_f * on - (towards_theta if more.get("surrogate") == "all" else 0)
    pull = more.get("preactivation_weight", 0) / n * (theta > a)
    d_a, d_theta = d_a - pull, (towards_theta + pull).sum(0)
    gradient = {"W_enc": x.T @ d_a, "b_enc": d_a.sum(0), "W_dec": f.T @ error * 2 / n, "b_dec": 2 / n * error.sum(0)}
    return gradient | {"threshold": d_theta}, float(near.mean())


@pytest.mark.parametrize("architecture", OWN)
def test_bfloat16_gradient_points_the_same_way(architecture):
    exact, rounded = (make(architecture, 64, precision=precision) for precision in ("float32", "bfloat16"))
    p, x = random_parameters(exact, 16), random_rows(512, 16)
    _, wanted = gradients_of(exact, p, x, x, memory_of(exact))
    _, got = gradients_of(rounded, p, x, x, memory_of(rounded))
    for name in p:
        assert got[name].dtype is torch.float32
        cosine = torch.nn.functional.cosine_similarity(got[name].flatten(), wanted[name].flatten(), dim=0)
        assert float(cosine) > 0.98, name
        assert not torch.equal(got[name], wanted[name])


@pytest.mark.parametrize("architecture", OWN)
def test_objective_is_the_loss_without_its_auxiliary_parts(architecture):
    sae = make(architecture)
    p, x = random_parameters(sae), random_rows(50, 5)
    terms = sae.loss(p, x, x, memory_of(sae), 1.0)
    main = float(sae.objective(terms.reconstruction, terms.sparsity, 5))
    if architecture in ("gated", "matryoshka"):
        assert main < float(terms.loss)
    else:
        assert main == pytest.approx(float(terms.loss), rel=1e-6)


@pytest.mark.parametrize("architecture", OWN)
def test_penalty_of_a_finished_sae_is_the_losss_sparsity(architecture):
    sae = make(architecture)
    p, x = random_parameters(sae), random_rows(50, 5)
    memory = memory_of(sae)
    terms = sae.loss(p, x, x, memory, 1.0)
    finished = sae.finish(p, memory | terms.remembered)
    if "threshold" in terms.remembered:  # which takes what is larger than the smallest of those kept
        finished["threshold"] = finished["threshold"] * (1 - 1e-6)
    f = sae.encode(finished, x)
    rows = sae.penalty(finished, x, f, finished["W_dec"].norm(dim=1))
    assert rows.shape == (50,)
    assert float(rows.mean()) == pytest.approx(float(terms.sparsity), rel=1e-5)
