"""TopK's gradient on a CPU through sparse codes.

The encoder's product is dense (all latents compete), the rest touches k latents per row: about
2 d m + 8 d k floating-point operations per row instead of 10 d m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae import kernels
from policylens.sae.architecture import Tensors, Terms
from policylens.sae.parallel import over_range

if TYPE_CHECKING:
    from policylens.sae.architectures.topk import TopK


class Code(NamedTuple):
    """A sparse code of n rows, see `policylens.sae.kernels`."""

    values: np.ndarray
    indices: np.ndarray
    counts: np.ndarray


@torch.no_grad()
def topk_gradients(topk: TopK, p: Tensors, x: Tensor, into: Tensors, dead: Tensor) -> tuple[Terms, Tensor]:
    """Write the gradient of `TopK.loss` into `into`; returns the loss's terms and which latents fired, (m,) bool."""
    n, d = x.shape
    for gradient in into.values():
        gradient.zero_()
    code = _encode(topk, p, x, topk.settings["k"])
    error = topk.buffer("error", (n, d), x)
    squares = _add(topk, p, x, code, p["b_dec"], x, error, into, factor=2 / (n * d))
    into["b_dec"].copy_(error.sum(0).mul_(2 / (n * d)))
    loss = squares / (n * d)
    if len(dead):
        weight = topk.settings["auxiliary_weight"]
        loss = loss + weight / (n * d) * _add_auxiliary(topk, p, x, error, into, dead, factor=2 * weight / (n * d))
    counts, sums = _per_latent(code, len(p["b_enc"]))
    return Terms(loss, squares / n, torch.dot(sums, p["W_dec"].norm(dim=1)) / n), counts > 0


def _encode(topk: TopK, p: Tensors, x: Tensor, k: int) -> Code:
    """The k largest positive latents of every row, tile by tile.

    With rounded factors the rounded products only choose; the chosen latents' values are computed in float32.
    """
    m, dtype = len(p["b_enc"]), topk.factor_dtype
    code = Code(np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int32), np.empty(len(x), np.int32))
    bias, encoder = p["b_enc"].to(dtype), p["W_enc"].to(dtype)
    block, first = kernels.block_size(m, k), 0
    for tile in x.split(topk.tile_rows(x)):
        rows = tile.to(dtype)
        dense = torch.addmm(bias, rows, encoder, out=topk.buffer(f"latents of {m}", (len(tile), m), rows)).float()
        part = Code(*(array[first : first + len(tile)] for array in code))
        over_range(kernels.largest, len(tile), dense.numpy(), block, *part)
        first += len(tile)
    if dtype is not torch.float32:
        exact = x.numpy(), p["W_enc"].T.numpy(), p["b_enc"].numpy()
        over_range(kernels.exact_values, len(x), code.indices, code.counts, *exact, code.values)
    return code


def _add(
    topk: TopK,
    p: Tensors,
    x: Tensor,
    code: Code,
    bias: Tensor,
    target: Tensor,
    error: Tensor,
    into: Tensors,
    factor: float,
) -> Tensor:
    """Decode, write decoded - target to `error`, add factor/2 * sum ||error||^2's gradient to `into` (not b_dec's).

    `into` holds the gradients of the tensors in `p`; returns sum ||error||^2.
    """
    n, m = len(x), len(p["b_enc"])
    decoder, errors, slopes = p["W_dec"].numpy(), error.numpy(), np.empty_like(code.values)
    squares, factor = np.empty(n, np.float32), np.float32(factor)
    over_range(kernels.error_of, n, *code, decoder, bias.numpy(), target.numpy(), errors, squares)
    over_range(kernels.code_slopes, n, *code, decoder, errors, factor, slopes)
    starts, entries = kernels.group_by_latent(code.indices, code.counts, m)
    gradients = into["W_dec"].numpy(), into["W_enc"].T.numpy(), into["b_enc"].numpy()
    over_range(kernels.add_gradients, m, starts, entries, code.values, slopes, x.numpy(), errors, factor, *gradients)
    return torch.from_numpy(squares).sum()


def _add_auxiliary(
    topk: TopK, p: Tensors, x: Tensor, error: Tensor, into: Tensors, dead: Tensor, factor: float
) -> Tensor:
    """Add the gradient of the dead latents' loss; returns its sum of squares. `error` is x_hat - x."""
    few = {
        "W_enc": p["W_enc"].T.index_select(0, dead).T,
        "b_enc": p["b_enc"][dead],
        "W_dec": p["W_dec"].index_select(0, dead),
    }
    slopes = {name: torch.zeros_like(tensor) for name, tensor in few.items()}
    code = _encode(topk, few, x, min(topk.settings["auxiliary_k"], len(dead)))
    nothing = torch.zeros_like(p["b_dec"])
    rest = topk.buffer("rest", tuple(x.shape), x)
    squares = _add(topk, few, x, code, nothing, -error, rest, slopes, factor)
    into["W_enc"].T.index_add_(0, dead, slopes["W_enc"].T)
    into["b_enc"].index_add_(0, dead, slopes["b_enc"])
    into["W_dec"].index_add_(0, dead, slopes["W_dec"])
    return squares


def _per_latent(code: Code, m: int) -> tuple[Tensor, Tensor]:
    """How often each latent fired and the sum of its values, (m,) both."""
    taken = np.arange(code.values.shape[1]) < code.counts[:, None]
    indices = code.indices[taken]
    counts = np.bincount(indices, minlength=m)
    sums = np.bincount(indices, weights=code.values[taken], minlength=m).astype(np.float32)
    return torch.from_numpy(counts), torch.from_numpy(sums)
