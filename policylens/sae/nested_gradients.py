"""Gradients through sparse codes on a CPU where every prefix of the latents has to reconstruct by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Tensors
from policylens.sae.auxiliary import WithAuxiliary
from policylens.sae.parallel import over_edges, over_range
from policylens.sae.sparse_gradients import (
    Code,
    Sums,
    add_auxiliary,
    balanced,
    decode,
    relu_values,
    smallest_positive,
)


def nested_gradients(
    sae: WithAuxiliary,
    p: Tensors,
    x: Tensor,
    target: Tensor,
    code: Code,
    widths: list[int],
    into: Tensors,
    dead: Tensor,
) -> tuple[Tensor, Sums]:
    """Write the gradient of sum_l mean ||error_l||^2 / d_out, and of AuxK, into `into`; returns the loss and sums.

    error_l = f_1..w W_dec,1..w + b_dec - target for the prefix l of width w. A latent of block b (in prefix b, but not
    in b - 1) is part of the prefixes from b on: its gradient is that of one error, G_b = sum_(l >= b) error_l. The
    sums' squares are those of the last prefix, the whole dictionary, whose error AuxK models. The code is reordered.
    """
    for gradient in into.values():
        gradient.zero_()
    size, edges = target.numel(), np.array([0, *widths])
    blocks = _blocks(code, edges)
    values = relu_values(p, x, code)
    errors, squares = _errors(sae, p, target, blocks, values)
    auxiliary = add_auxiliary(sae, p, x, errors[-1], into, dead) if len(dead) else 0.0
    sums = _add_blocks(p, x, code, edges, values, errors, 2 / size, into)
    return sum(squares) / size + auxiliary, Sums(squares[-1], sums, smallest_positive(values))


def _blocks(code: Code, edges: np.ndarray) -> list[Code]:
    """The entries of every block, as codes that share the latents of the whole, which are reordered."""
    shape = (len(edges) - 1, len(code.starts))
    starts, counts = np.empty(shape, np.int64), np.empty(shape, np.int32)
    over_range(kernels.group, shape[1], *code, edges, starts, counts)
    return [Code(first, count, code.latents) for first, count in zip(starts, counts, strict=True)]


def _errors(
    sae: WithAuxiliary, p: Tensors, target: Tensor, blocks: list[Code], values: np.ndarray
) -> tuple[list[Tensor], list[Tensor]]:
    """Every prefix's error (n, d_out), decoded from the one before and its own block, and the sums of their squares."""
    errors, squares, bias, rest = [], [], p["b_dec"], target
    for number, block in enumerate(blocks):
        error = sae.buffer(f"errors of prefix {number}", tuple(target.shape), target)
        squares.append(decode(block, values, p["W_dec"], bias, rest, error))
        errors.append(error)
        bias, rest = torch.zeros_like(bias), torch.neg(error, out=sae.buffer("rest", tuple(target.shape), target))
    return errors, squares


def _add_blocks(
    p: Tensors,
    x: Tensor,
    code: Code,
    edges: np.ndarray,
    values: np.ndarray,
    errors: list[Tensor],
    factor: float,
    into: Tensors,
) -> Tensor:
    """Add the gradient of factor/2 sum_l ||error_l||^2 to `into`; every latent's sum of values. Errors become G_b."""
    index = kernels.by_latent(*code, edges[-1])
    sums, nothing = np.zeros((2, edges[-1]), np.float32)
    gradients = into["W_dec"].numpy(), into["W_enc"].T.numpy(), into["b_enc"].numpy()
    for block in reversed(range(len(errors))):
        if block + 1 < len(errors):
            errors[block] += errors[block + 1]
        fixed = (x.numpy(), errors[block].numpy(), p["W_dec"].numpy(), np.float32(factor), nothing, *gradients, sums)
        over_edges(kernels.gather, balanced(index[0], edges[block], edges[block + 1]), *index, values, *fixed)
    into["b_dec"].add_(errors[0].sum(0), alpha=factor)
    return torch.from_numpy(sums)
