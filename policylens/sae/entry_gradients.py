"""Gradients on a CPU entry by entry of a sparse code, for architectures whose latents are not ReLUs.

A loss that involves few latents per row needs sums over their entries alone. What an entry's value and slope are is the
architecture's formula; here is what all of them share.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Architecture, Tensors
from policylens.sae.parallel import over_edges, over_range
from policylens.sae.precision import Factors
from policylens.sae.sparse_gradients import Code, balanced, positive

SPARSE_BELOW = 0.1
"""Share of entries from which on differentiating the dense formula is faster, on the CPUs that were tried."""


class Entries:
    """The entries of a code, in which none are left out between rows; `latents` (e,) are their latents, of `m`."""

    def __init__(self, code: Code, m: int) -> None:
        self._code, self._m, self.latents = code, m, code.latents

    def __len__(self) -> int:
        return len(self.latents)

    def kept(self, mask: np.ndarray) -> Entries:
        """Those of a mask (e,)."""
        before = np.concatenate([[0], np.cumsum(mask)])
        starts = before[self._code.starts]
        counts = before[self._code.starts + self._code.counts] - starts
        return Entries(Code(starts, counts.astype(np.int32), self.latents[mask]), self._m)

    def products(self, a: Tensor, b: Tensor) -> np.ndarray:
        """<a[r], b[i]> of every entry, (e,) float32; a (n, d), b (m, d)."""
        code, values, rows, columns = self._code, np.zeros(len(self.latents), np.float32), a.numpy(), b.numpy()
        over_range(
            lambda i, j: kernels.products(code.rows(i, j).cuts(), code.latents, rows[i:j], columns, values), len(rows)
        )
        return values

    def decode(self, values: np.ndarray, p: Tensors, target: Tensor, error: Tensor) -> Tensor:
        """Write values W_dec + b_dec - target to `error` (n, d_out); returns the sum of its squares, 0-d."""
        squares, goal, out = np.empty(len(target), np.float32), target.numpy(), error.numpy()
        decoder = p["W_dec"].numpy(), p["b_dec"].numpy()

        def part(i: int, j: int) -> None:
            entries = self._code.rows(i, j).cuts(), self.latents
            kernels.decode(*entries, values, *decoder, goal[i:j], out[i:j], squares[i:j])

        over_range(part, len(goal))
        return torch.from_numpy(squares).sum()

    def accumulate(self, weights: np.ndarray, matrix: Tensor, into: Tensor) -> None:
        """into[i] += sum of weights[e] matrix[r] over the entries of latent i; matrix (n, d), into (m, d)."""
        given = *self._by_latent, weights, np.float32(1), matrix.numpy(), into.numpy()
        over_edges(lambda start, stop: kernels.accumulate(start, stop, *given), balanced(self._by_latent[0]))

    def sums(self, weights: np.ndarray) -> Tensor:
        """(m,) sum of every latent's weights, float32."""
        return torch.from_numpy(np.bincount(self.latents, weights, self._m).astype(np.float32))

    @functools.cached_property
    def _by_latent(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return kernels.by_latent(*self._code, self._m, 0)


def above(sae: Architecture, weights: Tensor, bias: Tensor, x: Tensor) -> Entries | None:
    """The entries with x weights + bias > 0, or None if they are too many: then the dense way is faster.

    weights: (d_in, m). The factors' precision only chooses: an entry within its rounding of 0 may be missed or listed.
    """
    factors = Factors({"W_enc": weights, "b_enc": bias}, sae)
    codes = over_range(positive(sae, factors, x, SPARSE_BELOW), len(x))
    return None if any(code is None for code in codes) else Entries(joined(codes), len(bias))


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
