"""Gradients through sparse codes on a CPU where every prefix of the latents has to reconstruct by itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Tensors
from policylens.sae.auxiliary import WithAuxiliary
from policylens.sae.parallel import over_range
from policylens.sae.precision import Factors, RowFactor, raw
from policylens.sae.sparse_gradients import Code, Pass, Sums, add_auxiliary, blocks_of_rows, gather, start_from_zero


def nested_gradients(
    sae: WithAuxiliary,
    p: Tensors,
    x: Tensor,
    target: Tensor,
    code: Code,
    widths: list[int],
    factors: Factors,
    into: Tensors,
    dead: Tensor,
) -> tuple[Tensor, Sums, float]:
    """Write the gradient of sum_l mean ||error_l||^2 / d_out, and of AuxK, into `into`.

    error_l = f_1..w W_dec,1..w + b_dec - target for the prefix l of width w. A latent of block b (in prefix b, but not
    in b - 1) is part of the prefixes from b on: its gradient is that of one error, G_b = sum_(l >= b) error_l.
    Returns the loss, sums, and the smallest positive value; the sums' squares are those of the last
    prefix, the whole dictionary, whose error AuxK models.
    """
    start_from_zero(into)
    edges, factor, m = np.array([0, *widths]), 2 / target.numel(), len(p["b_enc"])
    errors = [sae.buffer(f"errors of prefix {number}", tuple(target.shape), target) for number in range(len(widths))]
    x_factor = RowFactor("x", x, sae)
    error_factors = [RowFactor(f"error {number}", error, sae) for number, error in enumerate(errors)]

    def through(start: int, stop: int) -> Pass:
        rows = slice(start, stop)
        prefixes, part = [error[rows] for error in errors], code.rows(start, stop)
        found = _through(factors, x[rows], target[rows], part, edges, prefixes, factor)
        for factor_rows in (x_factor, *error_factors):
            factor_rows.take(start, stop)
        return Pass(*found, prefixes[0].sum(0), blocks_of_rows(part, m, start))

    passes = over_range(through, len(x))
    sums = torch.zeros_like(p["b_enc"])
    for error, latents in zip(error_factors, pairwise(edges.tolist()), strict=True):
        sums += gather(passes, error.tensor, x_factor.tensor, factor, into, latents)
    into["b_dec"].add_(sum(part.errors for part in passes), alpha=factor)
    squares = torch.stack([part.squares.sum(1) for part in passes]).sum(0)
    auxiliary = add_auxiliary(sae, p, x, errors[-1], into, dead) if len(dead) else 0.0
    smallest = min(part.smallest for part in passes)
    return squares.sum() / target.numel() + auxiliary, Sums(squares[-1], sums), smallest


def _through(
    factors: Factors, x: Tensor, target: Tensor, code: Code, edges: np.ndarray, errors: list[Tensor], factor: float
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Rows forwards and back: (prefixes, n) squared errors, every entry's value and slope. `errors` become G_b."""
    values, slopes = np.zeros((2, len(code.latents)), np.float32)
    cuts = np.empty((len(edges), len(x)), np.int64)
    kernels.cut(*code, edges, cuts)
    bias, decoder = factors.exact("b_enc").numpy(), raw(factors["W_dec"])
    entries = code.cuts(*factors["W_dec"].shape), code.latents
    kernels.relu_products(*entries, x.numpy(), raw(factors["W_enc"].T), bias, values)
    squares, rest, bias_left = np.empty((len(errors), len(x)), np.float32), target, factors.exact("b_dec").numpy()
    for number, error in enumerate(errors):
        block = cuts[number : number + 2], code.latents
        kernels.decode(*block, values, decoder, bias_left, rest.numpy(), error.numpy(), squares[number])
        rest, bias_left = -error, np.zeros_like(bias_left)
    nothing = np.zeros_like(bias)
    for number in reversed(range(len(errors))):
        if number + 1 < len(errors):
            errors[number] += errors[number + 1]
        block = cuts[number : number + 2], code.latents
        kernels.back(*block, values, errors[number].numpy(), decoder, np.float32(factor), nothing, slopes)
    return torch.from_numpy(squares), values, slopes
