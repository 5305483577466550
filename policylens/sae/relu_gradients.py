"""Gradients of ReLU architectures: by dense products while many latents are active, then through sparse codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from policylens.sae.architecture import Architecture, Tensors
from policylens.sae.parallel import Result, over_range
from policylens.sae.precision import Factors, RowFactor, add_product
from policylens.sae.sparse_gradients import Sums, add_code, encoded, positive, start_from_zero, tiles

SPARSE_BELOW, SPARSE_BELOW_IN_MEMORY = 0.1, 0.07
"""Share of active latents from which on the dense products are faster, on the CPUs that were tried: where the weights
stay in a cache, and where they come from memory for every row."""

CACHED_WEIGHTS = 2**22


@torch.no_grad()
def relu_gradients(
    sae: Architecture, p: Tensors, x: Tensor, target: Tensor, into: Tensors, factor: float, penalty: Tensor
) -> Sums:
    """Write the gradient of factor/2 sum ||f W_dec + b_dec - target||^2 + sum_i penalty_i sum_r f_ri into `into`.

    f = ReLU(x W_enc + b_enc). penalty: (m,), taken as constant: its own dependence on the decoder is the caller's.
    Rows are worked on in chunks whose latents fit into memory; each goes the way that is faster for it, which follows
    from its own latents.
    """
    start_from_zero(into)
    factors, size, found = Factors(p, sae), sae.chunk_rows(x), []
    for first in range(0, len(x), size):
        part = x[first : first + size], target[first : first + size]
        found.append(_chunk(sae, factors, *part, into, factor, penalty))
    return Sums(*(torch.stack(parts).sum(0) for parts in zip(*found, strict=True)))


def _chunk(
    sae: Architecture, factors: Factors, x: Tensor, target: Tensor, into: Tensors, factor: float, penalty: Tensor
) -> Sums:
    latents = sae.buffer("latents", (len(x), len(penalty)), factors["b_enc"])
    if x.device.type == "cpu":
        error = sae.buffer("errors", tuple(target.shape), target)
        choose = positive(sae, factors, x, sparse_below(factors["W_dec"]), latents)
        added = add_code(sae, factors, x, target, choose, into, error, factor, penalty)
        if added is not None:
            return added[0]
    else:
        encoded(sae, factors, x, latents)
    return _add_dense(sae, factors, x, target, latents, into, factor, penalty)


def sparse_below(weights: Tensor) -> float:
    """Share of active latents up to which sparse codes are worth it. weights: (m, d)."""
    return SPARSE_BELOW if weights.numel() <= CACHED_WEIGHTS else SPARSE_BELOW_IN_MEMORY


class RowSums(NamedTuple):
    """Sums over rows. squares: 0-d, of errors. latents: (m,). to_b_enc, to_b_dec: (m,), (d_out,) gradients."""

    squares: Tensor
    latents: Tensor
    to_b_enc: Tensor
    to_b_dec: Tensor


def _add_dense(
    sae: Architecture,
    factors: Factors,
    x: Tensor,
    target: Tensor,
    latents: Tensor,
    into: Tensors,
    factor: float,
    penalty: Tensor,
) -> Sums:
    """Add the gradient by full products. Factors have their precision; all else is float32.

    With E = f W_dec + b_dec - target and S = factor E W_dec^T + penalty where f > 0: dL/dW_dec = factor f^T E,
    dL/dW_enc = x^T S. First the rows, then ranges of latents over all rows. latents: x W_enc + b_enc, overwritten.
    """
    dtype, over = sae.factor_dtype, over_range if x.device.type == "cpu" else _whole
    rows = RowFactor("x", x, sae)
    slopes = sae.buffer("slopes", tuple(target.shape), torch.empty(0, dtype=dtype, device=x.device))
    back = sae.buffer("back", tuple(latents.shape), latents)

    def through(start: int, stop: int) -> RowSums:
        shapes = (), penalty.shape, penalty.shape, target.shape[1:]
        sums = RowSums(*(target.new_zeros(shape) for shape in shapes))
        for first, last in tiles(sae, x, start, stop):
            f, part = latents[first:last].relu_(), slice(first, last)
            ones, memory = f.new_ones((1, last - first)), (last - first, target.shape[1])
            decoded = torch.addmm(factors["b_dec"], f, factors["W_dec"], out=sae.buffer(f"decoded {start}", memory, f))
            error = torch.sub(decoded, target[part], out=sae.buffer(f"error {start}", memory, target))
            sums.squares.add_(torch.dot(error.view(-1), error.view(-1)))
            sums.latents.add_(torch.mm(ones, f)[0])
            sums.to_b_dec.add_(error.mul_(factor).sum(0))
            slopes[part].copy_(error)
            rows.take(first, last)
            torch.addmm(penalty.to(dtype), slopes[part], factors["W_dec"].T, out=back[part])
            torch.ops.aten.threshold_backward.grad_input(back[part], f, 0.0, grad_input=back[part])
            sums.to_b_enc.add_(torch.mm(ones, back[part])[0])
        return sums

    def gather(start: int, stop: int) -> None:
        add_product(into["W_dec"][start:stop], latents[:, start:stop].T, slopes)
        add_product(into["W_enc"].T[start:stop], back[:, start:stop].T, rows.tensor)

    sums = RowSums(*(torch.stack(parts).sum(0) for parts in zip(*over(through, len(x)), strict=True)))
    over(gather, len(penalty))
    into["b_enc"] += sums.to_b_enc
    into["b_dec"] += sums.to_b_dec
    return Sums(sums.squares, sums.latents)


def _whole(work: Callable[[int, int], Result], length: int) -> list[Result]:
    return [work(0, length)]
