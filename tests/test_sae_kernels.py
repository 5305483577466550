"""The compiled loops against numpy and against the formulas; dense and sparse ways give the same gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policylens.sae import kernels, relu_gradients
from policylens.sae.architectures import build
from policylens.sae.settings import resolve
from policylens.sae.sparse_gradients import comparable, largest, largest_of_batch, nth_largest, positive

SHAPES = {"rows": st.integers(1, 12), "width": st.integers(1, 70), "seed": st.integers(0, 10**6)}
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def made(rows, width, seed, dtype, levels=0):
    """Numbers of both signs, with zeros, and with many ties if levels are few."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, width))
    if levels:
        values = np.round(values * levels) / levels
    return torch.from_numpy(values.astype(np.float32)).to(dtype)


def entries(code, rows):
    """Row -> set of latents; each row's are different ones."""
    found = []
    for r in range(rows):
        part = code.latents[code.starts[r] : code.starts[r] + code.counts[r]].tolist()
        assert len(set(part)) == len(part)
        found.append(set(part))
    return found


@given(**SHAPES, dtype=DTYPES)
def test_bits_are_in_the_order_of_the_numbers(rows, width, seed, dtype):
    dense = made(rows, width, seed, dtype)
    bits, numbers = comparable(dense).ravel(), dense.float().numpy().ravel()
    keep = numbers > 0
    assert np.array_equal(bits > 0, keep)
    assert np.array_equal(np.argsort(bits[keep], kind="stable"), np.argsort(numbers[keep], kind="stable"))


@given(**SHAPES, dtype=DTYPES)
def test_positive_entries_are_all_found(rows, width, seed, dtype):
    dense = made(rows, width, seed, dtype, levels=2)
    counts = np.empty(rows, np.int32)
    kernels.count_positive(0, rows, comparable(dense), counts)
    assert counts.tolist() == (dense > 0).sum(1).tolist()
    found = entries(positive(comparable(dense), counts), rows)
    assert found == [set(np.flatnonzero(row > 0).tolist()) for row in dense.float().numpy()]


@given(**SHAPES, dtype=DTYPES, levels=st.integers(0, 3), share=st.floats(0.01, 1.5))
def test_the_nth_largest_of_a_matrix(rows, width, seed, dtype, levels, share):
    dense = made(rows, width, seed, dtype, levels)
    n = max(1, int(share * dense.numel() / 2))
    values = np.sort(dense.float().numpy().ravel())[::-1]
    expected = values[n - 1] if n <= values.size and values[n - 1] > 0 else 0.0
    cut = np.array([nth_largest(comparable(dense), n)])
    got = torch.from_numpy(cut).view(torch.bfloat16 if dtype is torch.bfloat16 else torch.float32).float()
    assert float(got) == np.float32(expected)


def as_pre_activations(dense, dtype):
    """An architecture and parameters whose pre-activations are given: x is the identity."""
    sae = build(resolve({"architecture": "topk", "latents": dense.shape[1], "k": 1}))
    sae.factor_dtype = dtype
    p = {"W_enc": dense.float().T.contiguous().T, "b_enc": torch.zeros(dense.shape[1])}
    return sae, p, torch.eye(len(dense))


@given(**SHAPES, dtype=DTYPES, levels=st.integers(0, 3), k=st.integers(1, 9))
def test_the_largest_of_each_row_and_of_the_batch(rows, width, seed, dtype, levels, k):
    dense = made(rows, width, seed, dtype, levels)
    sae, p, x = as_pre_activations(dense, dtype)
    k = min(k, width)
    numbers = dense.float().numpy()
    for r, found in enumerate(entries(largest(sae, p, x, k), rows)):
        expected = np.sort(numbers[r][numbers[r] > 0])[::-1][:k]
        assert np.sort(numbers[r][list(found)])[::-1].tolist() == expected.tolist()
    found = entries(largest_of_batch(sae, p, x, k), rows)
    taken = np.concatenate([numbers[r][list(part)] for r, part in enumerate(found)])
    expected = np.sort(numbers[numbers > 0])[::-1][: rows * k]
    assert np.sort(taken)[::-1].tolist() == expected.tolist()


SETTINGS = {
    "standard": {"architecture": "standard", "latents": 96, "sparsity": 0.7},
    "plain_l1": {"architecture": "plain_l1", "latents": 96, "sparsity": 0.7},
    "transcoder": {"architecture": "transcoder", "latents": 96, "sparsity": 0.7, "output_site": "later"},
}


def gradients(name, precision, sparse_below, monkeypatch, bias):
    monkeypatch.setattr(relu_gradients, "SPARSE_BELOW", sparse_below)
    sae = build(resolve(SETTINGS[name] | {"precision": precision}))
    d_out = 10 if name == "transcoder" else 16
    p = sae.initial(16, d_out, torch.Generator().manual_seed(0))
    p["b_enc"] -= bias
    p["W_dec"] += 0.1 * torch.randn(p["W_dec"].shape, generator=torch.Generator().manual_seed(1))
    x = torch.randn(700, 16, generator=torch.Generator().manual_seed(2))
    target = torch.randn(700, d_out, generator=torch.Generator().manual_seed(3)) if name == "transcoder" else x
    into = {key: torch.empty_like(tensor) for key, tensor in p.items()}
    memory = sae.initial_memory()
    terms = sae.gradients(p, x, target, into, memory, 0.5)
    exact = {key: tensor.double().requires_grad_() for key, tensor in p.items()}
    formula = sae.loss(exact, x.double(), target.double(), memory, 0.5)
    formula.loss.backward()
    return into, terms, {key: tensor.grad for key, tensor in exact.items()}, formula


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("below", [0.0, 1.1, 0.04], ids=["dense", "sparse", "each tile its way"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_ways_give_the_formulas_gradient(monkeypatch, name, below, precision):
    monkeypatch.setattr("policylens.sae.architecture.SMALLEST_TILE", 100)
    monkeypatch.setattr("policylens.sae.architecture.TILE_ELEMENTS", 100)
    got, terms, expected, formula = gradients(name, precision, below, monkeypatch, bias=1.0 if below == 0.04 else 0.1)
    tolerance = 1e-5 if precision == "float32" else 3e-2
    for key, gradient in got.items():
        difference = (gradient.double() - expected[key]).norm() / expected[key].norm()
        assert difference < tolerance, key
    assert float(terms.loss) == pytest.approx(float(formula.loss), rel=tolerance)
    if precision == "float32":
        assert torch.equal(terms.fired, formula.fired)


def test_sparse_codes_are_exact_where_rounded_products_only_choose(monkeypatch):
    """Values and errors of a sparse code are float32 even if bfloat16 chose the latents."""
    got, _, expected, _ = gradients("standard", "bfloat16", 1.1, monkeypatch, bias=0.1)
    dense, _, _, _ = gradients("standard", "bfloat16", 0.0, monkeypatch, bias=0.1)

    def off(found):
        return float((found["W_dec"].double() - expected["W_dec"]).norm() / expected["W_dec"].norm())

    assert off(got) < 0.2 * off(dense)
