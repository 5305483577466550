"""Activations moved along directions: in one pass over memory on a CPU, by torch's own operations elsewhere."""

from __future__ import annotations

import torch
from numba import njit
from torch import Tensor


def moved(activation: Tensor, rows: Tensor, directions: Tensor, which: Tensor, amounts: Tensor) -> Tensor:
    """activation[rows[p]] + amounts[p] directions[which[p]] for every pair p: (pairs, *inner, d).

    activation: (n, *inner, d). rows, which: (pairs,) int64. directions: (k, d). amounts: (pairs, positions), one for
    each of the inner positions.
    """
    if activation.device.type == "cpu" and activation.dtype in (torch.float32, torch.float64):
        out = activation.new_empty((len(rows), *activation.shape[1:]))
        n, positions, width = len(activation), amounts.shape[1], activation.shape[-1]
        parts = (activation.reshape(n, positions, width), directions, amounts.to(activation.dtype))
        base, along, by = (part.detach().numpy() for part in parts)
        _move(base, rows.numpy(), along, which.numpy(), by, out.view(len(rows), positions, width).numpy())
        return out
    before = activation[rows]
    by = amounts.to(before.device, before.dtype)[:, :, None] * directions[which.to(before.device)][:, None, :]
    return before + by.reshape(before.shape)


@njit(nogil=True, cache=True)
def _move(base, rows, along, which, by, out):
    for p in range(len(rows)):
        row, direction = rows[p], along[which[p]]
        for position in range(by.shape[1]):
            amount = by[p, position]
            for c in range(out.shape[2]):
                out[p, position, c] = base[row, position, c] + amount * direction[c]
