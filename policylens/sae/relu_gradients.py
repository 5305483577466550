"""Gradients of ReLU architectures: densely in tiles while many latents are active, then through sparse codes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Architecture, Tensors
from policylens.sae.parallel import over_range
from policylens.sae.precision import Factors, add_product
from policylens.sae.sparse_gradients import Code, add_code, comparable, joined, positive, pre_activations

SPARSE_BELOW = 0.04
"""Share of active latents from which on the dense products are faster, on the CPUs that were tried."""


class Sums:
    """What a pass over all rows adds up: `squares`, of the errors, 0-d; `latents`, every latent's values, (m,)."""

    def __init__(self, like: Tensor) -> None:
        self.squares, self.latents = like.new_zeros(()), torch.zeros_like(like)


@torch.no_grad()
def relu_gradients(
    sae: Architecture, p: Tensors, x: Tensor, target: Tensor, into: Tensors, factor: float, penalty: Tensor
) -> Sums:
    """Write the gradient of factor/2 sum ||f W_dec + b_dec - target||^2 + sum_i penalty_i sum_r f_ri into `into`.

    f = ReLU(x W_enc + b_enc). penalty: (m,), taken as constant: its own dependence on the decoder is the caller's.
    Each tile of rows goes the way that is faster for it; which one follows from its own latents.
    """
    for gradient in into.values():
        gradient.zero_()
    sums, size = Sums(p["b_enc"]), sae.tile_rows(x)
    factors = Factors(p, sae.factor_dtype, sae.buffer)
    left: list[tuple[slice, Code]] = []
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        latents = pre_activations(sae, factors, x[part])
        code = _sparse_code(latents)
        if code is None:
            _add_dense(sae, factors, x[part], target[part], latents, into, factor, penalty, sums)
        else:
            left.append((part, code))
    for part, code in _runs(left):
        _add_sparse(sae, p, x[part], target[part], code, into, factor, penalty, sums)
    return sums


def _sparse_code(latents: Tensor) -> Code | None:
    """The active latents of a tile, or None where the dense way is faster."""
    if latents.device.type != "cpu":
        return None
    dense, counts = comparable(latents), np.empty(len(latents), np.int32)
    over_range(kernels.count_positive, len(latents), dense, counts)
    return positive(dense, counts) if counts.sum() < SPARSE_BELOW * dense.size else None


def _runs(tiles: list[tuple[slice, Code]]) -> list[tuple[slice, Code]]:
    """Neighbouring tiles joined."""
    runs: list[tuple[slice, list[Code]]] = []
    for part, code in tiles:
        if runs and runs[-1][0].stop == part.start:
            runs[-1] = (slice(runs[-1][0].start, part.stop), [*runs[-1][1], code])
        else:
            runs.append((part, [code]))
    return [(part, joined(codes)) for part, codes in runs]


def _add_sparse(
    sae: Architecture,
    p: Tensors,
    x: Tensor,
    target: Tensor,
    code: Code,
    into: Tensors,
    factor: float,
    penalty: Tensor,
    sums: Sums,
) -> None:
    error = sae.buffer("errors", tuple(target.shape), target)
    added = add_code(sae, p, x, target, code, into, error, factor, penalty)
    sums.squares += added.squares
    sums.latents += added.latents


def _add_dense(
    sae: Architecture,
    p: Factors,
    x: Tensor,
    target: Tensor,
    latents: Tensor,
    into: Tensors,
    factor: float,
    penalty: Tensor,
    sums: Sums,
) -> None:
    """One tile by full products. p: parameters in the precision of products; all else is float32.

    With E = f W_dec + b_dec - target and S = factor E W_dec^T + penalty where f > 0: dL/dW_dec = factor f^T E,
    dL/dW_enc = x^T S. Sums over rows are products with a row of ones, which is the fastest way in bfloat16.
    """
    dtype, rows = sae.factor_dtype, x.to(sae.factor_dtype)
    f = latents.relu_()
    decoded = torch.addmm(p["b_dec"], f, p["W_dec"], out=sae.buffer("decoded", tuple(target.shape), rows))
    error = torch.sub(decoded, target, out=sae.buffer("error", tuple(target.shape), x))
    sums.squares += torch.dot(error.view(-1), error.view(-1))
    ones = rows.new_ones((1, len(x)))
    sums.latents += torch.mm(ones, f)[0]
    slopes = error.mul_(factor)
    into["b_dec"] += slopes.sum(0)
    slopes = slopes.to(dtype)
    add_product(into["W_dec"], f.T, slopes)
    back = torch.addmm(penalty.to(dtype), slopes, p["W_dec"].T, out=sae.buffer("back", tuple(f.shape), rows))
    torch.ops.aten.threshold_backward.grad_input(back, f, 0.0, grad_input=back)
    add_product(into["W_enc"].T, back.T, rows)
    into["b_enc"] += torch.mm(ones, back)[0]
