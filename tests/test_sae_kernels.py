"""The compiled loops against numpy and against the formulas; dense and sparse ways give the same gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_cases import torch_threads

from policylens.sae import active, entry_gradients, kernels, relu_gradients, sparse_gradients
from policylens.sae.architectures import build
from policylens.sae.precision import Factors
from policylens.sae.settings import resolve
from policylens.sae.sparse_gradients import Code, comparable, largest, largest_of_batch, nth_largest

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


def listed(dense):
    """The code of all positive entries."""
    latents = np.empty(dense.numel() + dense.shape[1], np.int32)
    starts, counts = np.empty(len(dense), np.int64), np.empty(len(dense), np.int32)
    place = active.list_positive(comparable(dense), starts, counts, latents, 0)
    return Code(starts, counts, latents[:place])


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
    found = entries(listed(dense), rows)
    assert found == [set(np.flatnonzero(row > 0).tolist()) for row in dense.float().numpy()]
    tight = np.empty((dense > 0).sum() + width - 1, np.int32)
    starts, counts = np.empty(rows, np.int64), np.empty(rows, np.int32)
    fits = int((dense[:-1] > 0).sum()) + width <= len(tight)
    assert (active.list_positive(comparable(dense), starts, counts, tight, 0) >= 0) == fits


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
    factors = Factors(p, sae)
    for r, found in enumerate(entries(largest(sae, factors, x, k)(0, rows), rows)):
        expected = np.sort(numbers[r][numbers[r] > 0])[::-1][:k]
        assert np.sort(numbers[r][list(found)])[::-1].tolist() == expected.tolist()
    found = entries(largest_of_batch(sae, factors, x, k), rows)
    taken = np.concatenate([numbers[r][list(part)] for r, part in enumerate(found)])
    expected = np.sort(numbers[numbers > 0])[::-1][: rows * k]
    assert np.sort(taken)[::-1].tolist() == expected.tolist()


@given(**SHAPES, width_out=st.integers(1, 9))
def test_loops_over_the_entries_of_a_code(rows, width, seed, width_out):
    """Products, decoding and accumulation are those of the dense code; grouping keeps the entries."""
    dense = made(rows, width, seed, torch.float32, levels=1)
    code = listed(dense)
    every, counts = entry_gradients.Entries(code, width), code.counts
    a, b, target = (made(size, width_out, seed + size, torch.float32) for size in (rows, width, rows))
    row = np.repeat(np.arange(rows), counts)
    assert np.allclose(every.products(a, b), (a @ b.T).numpy()[row, every.latents], atol=1e-5)
    mask = np.random.default_rng(seed).random(len(every)) < 0.5
    some, code = every.kept(mask), np.zeros((rows, width), np.float32)
    code[row[mask], every.latents[mask]] = values = made(1, len(some), seed, torch.float32)[0].numpy()
    into, error = torch.ones(width, width_out), torch.empty(rows, width_out)
    some.accumulate(values, a, into)
    assert np.allclose(into, 1 + code.T @ a.numpy(), atol=1e-5)
    assert np.allclose(some.sums(values), code.sum(0), atol=1e-5)
    p = {"W_dec": b, "b_dec": torch.full((width_out,), 0.5)}
    squares = some.decode(values, p, target, error)
    assert np.allclose(error, code @ b.numpy() + 0.5 - target.numpy(), atol=1e-4)
    assert float(squares) == pytest.approx(float(error.square().sum()), rel=1e-5)


@given(**SHAPES, edges=st.lists(st.integers(1, 69), max_size=3, unique=True))
def test_cutting_a_rows_entries_by_latent(rows, width, seed, edges):
    dense = made(rows, width, seed, torch.float32, levels=1)
    code = listed(dense)
    edges = np.array([0, *sorted(edge for edge in edges if edge < width), width])
    cuts = np.empty((len(edges), rows), np.int64)
    kernels.cut(*code, edges, cuts)
    assert np.array_equal(cuts[[0, -1]], code.cuts())
    for b, (first, last) in enumerate(zip(edges, edges[1:], strict=False)):
        found = [code.latents[start:stop].tolist() for start, stop in zip(cuts[b], cuts[b + 1], strict=True)]
        assert found == [[i for i in range(first, last) if row[i] > 0] for row in dense.tolist()]


def test_rows_wider_than_a_block_of_columns():
    width = 600
    code = listed(made(9, 5, 0, torch.float32, levels=1))
    matrix, into = made(9, width, 1, torch.float32), torch.zeros(5, width)
    weights = made(1, len(code.latents), 2, torch.float32)[0]
    entry_gradients.Entries(code, 5).accumulate(weights.numpy(), matrix, into)
    dense = torch.zeros(9, 5)
    dense[np.repeat(np.arange(9), code.counts), code.latents] = weights
    assert width > 2 * kernels.COLUMNS
    assert torch.allclose(into, dense.T @ matrix, atol=1e-5)


def test_weights_that_leave_the_cache_make_sparse_codes_worth_less():
    assert relu_gradients.sparse_below(torch.empty(2**12, 2**10)) == relu_gradients.SPARSE_BELOW
    below = relu_gradients.sparse_below(torch.empty(2**12, 2**10 + 1, device="meta"))
    assert below == relu_gradients.SPARSE_BELOW_IN_MEMORY < relu_gradients.SPARSE_BELOW


def test_blocks_of_latents_change_no_gradient(monkeypatch):
    whole, _, expected, _ = gradients("standard", "float32", 1.1, monkeypatch, bias=0.1)
    monkeypatch.setattr(sparse_gradients, "BLOCK_WEIGHTS", 16 * 20)
    assert len(Code(np.zeros(2, np.int64), np.full(2, 40, np.int32), np.arange(40)).cuts(96, 16)) == 6
    cut, *_ = gradients("standard", "float32", 1.1, monkeypatch, bias=0.1)
    for key, gradient in whole.items():
        assert torch.allclose(gradient, cut[key], atol=1e-5 * float(expected[key].abs().max())), key


SETTINGS = {
    "standard": {"architecture": "standard", "latents": 96, "sparsity": 0.7},
    "standard, subtracted": {"architecture": "standard", "latents": 96, "sparsity": 0.7, "subtract_b_dec": True},
    "plain_l1": {"architecture": "plain_l1", "latents": 96, "sparsity": 0.7},
    "transcoder": {"architecture": "transcoder", "latents": 96, "sparsity": 0.7, "output_site": "later"},
}


def gradients(name, precision, sparse_below, monkeypatch, bias, silent=0):
    """Gradients, terms, and those of the formula. silent: first rows in which no latent is active."""
    monkeypatch.setattr(relu_gradients, "SPARSE_BELOW", sparse_below)
    sae = build(resolve(SETTINGS[name] | {"precision": precision}))
    d_out = 10 if name == "transcoder" else 16
    p = sae.initial(16, d_out, torch.Generator().manual_seed(0))
    p["b_enc"] -= bias
    for key in ("W_dec", "b_dec"):
        p[key] += 0.1 * torch.randn(p[key].shape, generator=torch.Generator().manual_seed(1))
    x = torch.randn(700, 16, generator=torch.Generator().manual_seed(2))
    x[:silent] = p["b_dec"] if sae.settings.get("subtract_b_dec") else 0.0
    target = torch.randn(700, d_out, generator=torch.Generator().manual_seed(3)) if name == "transcoder" else x
    into = {key: torch.empty_like(tensor) for key, tensor in p.items()}
    memory = sae.initial_memory()
    terms = sae.gradients(p, x, target, into, memory, 0.5)
    exact = {key: tensor.double().requires_grad_() for key, tensor in p.items()}
    formula = sae.loss(exact, x.double(), target.double(), memory, 0.5)
    formula.loss.backward()
    return into, terms, {key: tensor.grad for key, tensor in exact.items()}, formula


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("below", "silent", "dense_chunks"),
    [(0.0, 0, 7), (1.1, 0, 0), (0.04, 350, 4)],
    ids=["dense", "sparse", "each chunk its way"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_both_ways_give_the_formulas_gradient(monkeypatch, name, below, silent, dense_chunks, precision, threads):
    """With three threads, the parts of a chunk that is silent in its first half disagree on the way."""
    monkeypatch.setattr("policylens.sae.architecture.SMALLEST_TILE", 100)
    monkeypatch.setattr("policylens.sae.architecture.TILE_ELEMENTS", 100)
    monkeypatch.setattr("policylens.sae.architecture.CHUNK_ELEMENTS", 100)
    dense, way = [], relu_gradients._add_dense
    monkeypatch.setattr(relu_gradients, "_add_dense", lambda *given: dense.append(True) or way(*given))
    with torch_threads(threads):
        got, terms, expected, formula = gradients(name, precision, below, monkeypatch, 0.3, silent)
    assert len(dense) == dense_chunks
    tolerance = 1e-5 if precision == "float32" else 3e-2
    for key, gradient in got.items():
        difference = (gradient.double() - expected[key]).norm() / expected[key].norm()
        assert difference < tolerance, key
    assert float(terms.loss) == pytest.approx(formula.loss.item(), rel=tolerance)
    if precision == "float32":
        assert torch.equal(terms.fired, formula.fired)


def test_sparse_codes_are_no_less_exact_than_rounded_products(monkeypatch):
    """Only the factors are rounded: values, errors and sums of a sparse code are float32."""
    got, _, expected, _ = gradients("standard", "bfloat16", 1.1, monkeypatch, bias=0.1)
    dense, _, _, _ = gradients("standard", "bfloat16", 0.0, monkeypatch, bias=0.1)

    def off(found):
        return float((found["W_dec"].double() - expected["W_dec"]).norm() / expected["W_dec"].norm())

    assert off(got) < off(dense)


ENTRYWISE = {
    "jumprelu": {"architecture": "jumprelu", "sparsity": 0.7},
    "jumprelu, all": {"architecture": "jumprelu", "sparsity": 0.7, "surrogate": "all"},
    "jumprelu, tanh": {"architecture": "jumprelu", "sparsity": 0.7, "penalty": "tanh", "surrogate": "all"},
    "jumprelu, pulled": {"architecture": "jumprelu", "sparsity": 0.7, "preactivation_weight": 0.2},
    "gated": {"architecture": "gated", "sparsity": 0.7},
    "matryoshka": {"architecture": "matryoshka", "k": 4, "prefixes": [5, 0.25, 0.5]},
}


def entrywise(name, precision, d_out):
    """Gradients and their formula's, and whether the formula is what made them."""
    sae = build(resolve(ENTRYWISE[name] | {"latents": 96, "precision": precision}))
    rng = torch.Generator().manual_seed(0)
    p = sae.initial(16, d_out, rng)
    for tensor in p.values():
        tensor += 0.1 * torch.randn(tensor.shape, generator=rng)
    for key in ("b_gate", "b_mag", "b_enc"):
        if key in p:
            p[key] -= 0.2
    x, target = torch.randn(700, 16, generator=rng), torch.randn(700, d_out, generator=rng)
    memory = sae.initial_memory()
    memory["rows_since_active"][::5] = 10**9
    into, by_formula = {key: torch.full_like(tensor, 7.0) for key, tensor in p.items()}, []
    loss = sae.loss
    sae.loss = lambda *arguments: by_formula.append(True) or loss(*arguments)
    terms = sae.gradients(p, x, target, into, memory, 0.5)
    exact = {key: tensor.double().requires_grad_() for key, tensor in p.items()}
    formula = loss(exact, x.double(), target.double(), memory, 0.5)
    wanted = torch.autograd.grad(formula.loss, list(exact.values()))
    return into, terms, dict(zip(exact, wanted, strict=True)), formula, bool(by_formula)


@pytest.mark.parametrize("name", ENTRYWISE)
@pytest.mark.parametrize(("below", "threads"), [(0.0, 1), (1.1, 1), (1.1, 3)], ids=["dense", "sparse", "threads"])
@pytest.mark.parametrize(("precision", "d_out"), [("float32", 16), ("float32", 10), ("bfloat16", 16)])
def test_gradients_entry_by_entry_are_the_formulas(monkeypatch, name, below, threads, precision, d_out):
    monkeypatch.setattr("policylens.sae.architecture.SMALLEST_TILE", 100)
    monkeypatch.setattr("policylens.sae.architecture.TILE_ELEMENTS", 100)
    monkeypatch.setattr(entry_gradients, "SPARSE_BELOW", below)
    with torch_threads(threads):
        got, terms, wanted, formula, by_formula = entrywise(name, precision, d_out)
    assert by_formula == (name == "jumprelu, pulled" or (below == 0 and name != "matryoshka"))
    tolerance = 1e-5 if precision == "float32" else 0.1
    for key, gradient in got.items():
        difference = (gradient.double() - wanted[key]).norm() / wanted[key].norm()
        assert difference < tolerance, key
    for mine, exact in zip(terms[:3], formula[:3], strict=True):
        assert float(mine) == pytest.approx(float(exact.detach()), rel=tolerance)
    for key, value in formula.remembered.items():
        assert float(terms.remembered[key]) == pytest.approx(float(value), rel=tolerance)
    if precision == "float32":
        assert torch.equal(terms.fired, formula.fired)


@pytest.mark.parametrize("name", ["jumprelu", "gated"])
def test_without_any_active_entry(name):
    sae = build(resolve(ENTRYWISE[name] | {"latents": 8}))
    p = sae.initial(4, 4, torch.Generator().manual_seed(0))
    p["b_gate" if name == "gated" else "b_enc"] -= 1e3
    into = {key: torch.full_like(tensor, 7.0) for key, tensor in p.items()}
    x = torch.ones(5, 4)
    terms = sae.gradients(p, x, x, into, sae.initial_memory(), 1.0)
    assert (float(terms.loss), float(terms.sparsity)) == (8.0 if name == "gated" else 4.0, 0.0)
    assert not terms.fired.any()
    assert torch.allclose(into.pop("b_dec"), torch.full((4,), -2.0))
    assert not any(gradient.any() for gradient in into.values())
