"""Gradients on a CPU through sparse codes: what k active latents per row need, not what m would.

Only the encoder's product is dense (all latents compete): about 2 d m + 12 k d floating-point operations per row, k
being the active latents, where all products in full take 10 d m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Architecture, Tensors
from policylens.sae.parallel import over_edges, over_range
from policylens.sae.precision import Factors

if TYPE_CHECKING:
    from policylens.sae.auxiliary import WithAuxiliary


class Code(NamedTuple):
    """Which latents are active: `counts[r]` of row r from `starts[r]` on (see `policylens.sae.kernels`)."""

    starts: np.ndarray
    counts: np.ndarray
    latents: np.ndarray


class Sums(NamedTuple):
    """squares: sum over rows of the squared error, 0-d. latents: (m,) sum of every latent's values over rows.

    smallest: the smallest positive value, infinity if there is none.
    """

    squares: Tensor
    latents: Tensor
    smallest: float


def comparable(dense: Tensor) -> np.ndarray:
    """The bits of a float32 or bfloat16 matrix as integers, which are in the order of the numbers if positive."""
    return dense.view(torch.int16 if dense.dtype is torch.bfloat16 else torch.int32).numpy()


def pre_activations(sae: Architecture, p: Tensors | Factors, x: Tensor, name: str = "latents") -> Tensor:
    """x W_enc + b_enc of a tile of rows, in the precision of products, in memory that is kept under a name.

    p: W_enc and b_enc in that precision.
    """
    rows = x.to(sae.factor_dtype)
    shape = (len(x), len(p["b_enc"]))
    return torch.addmm(p["b_enc"], rows, p["W_enc"], out=sae.buffer(name, shape, rows))


def largest(sae: Architecture, p: Tensors, x: Tensor, k: int) -> Code:
    """The k largest positive latents of every row, tile by tile."""
    m = len(p["b_enc"])
    factors = Factors(p, sae.factor_dtype, sae.buffer)
    latents, counts = np.empty((len(x), k), np.int32), np.empty(len(x), np.int32)
    first = 0
    for tile in x.split(sae.tile_rows(x)):
        dense = comparable(pre_activations(sae, factors, tile, f"latents of {m}"))
        part = slice(first, first + len(tile))
        over_range(kernels.largest, len(tile), dense, latents[part], counts[part])
        first += len(tile)
    return Code(np.arange(len(x), dtype=np.int64) * k, counts, latents.reshape(-1))


def largest_of_batch(sae: Architecture, p: Tensors, x: Tensor, k: int) -> Code:
    """The n k largest positive latents of n rows together (fewer if fewer are positive)."""
    factors = Factors(p, sae.factor_dtype, sae.buffer)
    every = sae.buffer("latents of a batch", (len(x), len(p["b_enc"])), factors["b_enc"])
    for tile, part in zip(x.split(sae.tile_rows(x)), every.split(sae.tile_rows(x)), strict=True):
        torch.addmm(factors["b_enc"], tile.to(sae.factor_dtype), factors["W_enc"], out=part)
    dense = comparable(every)
    cut = nth_largest(dense, len(x) * k)
    above, equal = np.empty(len(x), np.int32), np.empty(len(x), np.int32)
    over_range(kernels.count_from, len(x), dense, cut, above, equal)
    # Of entries equal to the smallest that is kept, the first ones are, so that there are n k in all.
    before = np.cumsum(equal) - equal
    spare = np.clip(len(x) * k - above.sum() - before, 0, equal).astype(np.int32)
    if cut == 0:
        spare[:] = 0
    counts = (above + spare).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    latents = np.empty(starts[-1], np.int32)
    over_range(kernels.list_from, len(x), dense, cut, starts, spare, latents)
    return Code(starts[:-1], counts, latents)


def nth_largest(dense: np.ndarray, n: int) -> np.integer:
    """The n-th largest entry of a matrix of integers, or 0 if fewer than n are positive."""
    shift = 8 * (dense.dtype.itemsize - 2)
    blocks = max(1, min(torch.get_num_threads(), len(dense)))
    edges = np.array([len(dense) * block // blocks for block in range(blocks + 1)])
    bins = np.zeros((blocks, 2**15), np.int64)
    over_range(kernels.histogram, blocks, dense, edges, shift, bins)
    down = np.cumsum(bins.sum(0)[::-1])
    if down[-1] < n:
        return dense.dtype.type(0)
    position = int(np.searchsorted(down, n))
    top = 2**15 - 1 - position
    if shift == 0:
        return dense.dtype.type(top)
    inside = dense[(dense >> shift) == top]
    rank = n - (int(down[position - 1]) if position else 0)
    return np.partition(inside, len(inside) - rank)[len(inside) - rank]


def positive(dense: np.ndarray, counts: np.ndarray) -> Code:
    """All positive entries of a tile of pre-activations. counts: (n,) of `kernels.count_positive`."""
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    latents = np.empty(starts[-1], np.int32)
    over_range(kernels.list_positive, len(dense), dense, starts, latents)
    return Code(starts[:-1], counts, latents)


def joined(codes: list[Code]) -> Code:
    """Codes of consecutive rows as one."""
    if len(codes) == 1:
        return codes[0]
    offsets = np.cumsum([0, *(len(code.latents) for code in codes)])
    return Code(
        np.concatenate([code.starts + offset for code, offset in zip(codes, offsets, strict=False)]),
        np.concatenate([code.counts for code in codes]),
        np.concatenate([code.latents for code in codes]),
    )


def add_code(
    sae: Architecture,
    p: Tensors,
    x: Tensor,
    target: Tensor,
    code: Code,
    into: Tensors,
    error: Tensor,
    factor: float,
    penalty: Tensor,
) -> Sums:
    """Decode, and add the gradient of factor/2 sum ||error||^2 + sum_i penalty_i sum_r f_ri to `into`.

    The penalty's own dependence on the decoder, if any, is left to the caller. p: float32 parameters. error:
    (n, d_out), written: decoded - target. Values and errors are float32 whatever the precision of the factors was.
    """
    values = relu_values(p, x, code)
    squares = decode(code, values, p["W_dec"], p["b_dec"], target, error)
    first, rows, entries = kernels.by_latent(*code, len(penalty))
    sums = np.zeros(len(penalty), np.float32)
    gradients = into["W_dec"].numpy(), into["W_enc"].T.numpy(), into["b_enc"].numpy()
    fixed = (error.numpy(), p["W_dec"].numpy(), np.float32(factor), penalty.numpy(), *gradients, sums)
    over_edges(kernels.gather, balanced(first), first, rows, entries, values, x.numpy(), *fixed)
    into["b_dec"].add_(error.sum(0), alpha=factor)
    return Sums(squares, torch.from_numpy(sums), smallest_positive(values))


def products(code: Code, a: Tensor, b: Tensor, bias: Tensor) -> np.ndarray:
    """<a[r], b[i]> + bias[i] of every entry, row r and latent i; a (n, d), b (m, d), bias (m,)."""
    values = np.zeros(len(code.latents), np.float32)
    over_range(kernels.products, len(a), *code, a.numpy(), b.numpy(), bias.numpy(), values)
    return values


def relu_values(p: Tensors, x: Tensor, code: Code) -> np.ndarray:
    """ReLU(x W_enc + b_enc) of every entry, in float32."""
    values = products(code, x, p["W_enc"].T, p["b_enc"])
    return np.maximum(values, 0, out=values)


def decode(
    code: Code, values: np.ndarray, decoder: Tensor, decoder_bias: Tensor, target: Tensor, error: Tensor
) -> Tensor:
    """Write the decoded code minus the target to `error` (n, d_out); returns the sum of its squares, 0-d."""
    squares = np.empty(len(target), np.float32)
    fixed = (decoder.numpy(), decoder_bias.numpy(), target.numpy(), error.numpy(), squares)
    over_range(kernels.decode, len(target), *code, values, *fixed)
    return torch.from_numpy(squares).sum()


def smallest_positive(values: np.ndarray) -> float:
    """Infinity if there is none."""
    return float(values.min(initial=np.inf, where=values > 0))


def balanced(first: np.ndarray, start: int = 0, stop: int | None = None) -> list[int]:
    """Edges of ranges of the latents start:stop, one per thread, with about as many entries each."""
    threads, stop = torch.get_num_threads(), len(first) - 1 if stop is None else stop
    shares = np.linspace(first[start], first[stop], threads + 1)[1:-1]
    return [start, *np.clip(np.searchsorted(first, shares), start, stop).tolist(), stop]


def add_auxiliary(sae: WithAuxiliary, p: Tensors, x: Tensor, error: Tensor, into: Tensors, dead: Tensor) -> Tensor:
    """Add the gradient of AuxK (`policylens.sae.auxiliary`) to `into`; returns that loss. error: decoded - target."""
    weight = sae.settings["auxiliary_weight"] / error.numel()
    few = {
        "W_enc": p["W_enc"].T.index_select(0, dead).T,
        "b_enc": p["b_enc"][dead],
        "W_dec": p["W_dec"].index_select(0, dead),
        "b_dec": torch.zeros_like(p["b_dec"]),
    }
    slopes = {name: torch.zeros_like(tensor) for name, tensor in few.items()}
    code = largest(sae, few, x, min(sae.settings["auxiliary_k"], len(dead)))
    rest = sae.buffer("rest", tuple(error.shape), error)
    sums = add_code(sae, few, x, -error, code, slopes, rest, 2 * weight, torch.zeros_like(few["b_enc"]))
    into["W_enc"].T.index_add_(0, dead, slopes["W_enc"].T)
    into["b_enc"].index_add_(0, dead, slopes["b_enc"])
    into["W_dec"].index_add_(0, dead, slopes["W_dec"])
    return weight * sums.squares


def code_gradients(
    sae: WithAuxiliary, p: Tensors, x: Tensor, target: Tensor, code: Code, into: Tensors, dead: Tensor
) -> tuple[Tensor, Sums]:
    """Write the gradient of mean ||error||^2 / d_out of a chosen code, and of AuxK, into `into`; the loss and sums."""
    for gradient in into.values():
        gradient.zero_()
    error, size = sae.buffer("errors", tuple(target.shape), target), target.numel()
    sums = add_code(sae, p, x, target, code, into, error, 2 / size, torch.zeros_like(p["b_enc"]))
    loss = sums.squares / size
    return (loss + add_auxiliary(sae, p, x, error, into, dead) if len(dead) else loss), sums
