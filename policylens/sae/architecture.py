"""What an architecture is: how activations become latents and back, and the loss that is trained.

A new architecture is one file in `architectures/`: it says its tensors, `encode`, and `loss` as a formula. That is
enough to train, save, load and evaluate it. It may add `gradients`, written out by hand, where that is faster than
automatic differentiation of the formula; a test then compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from policylens.sae.precision import DTYPES

Tensors = dict[str, Tensor]

TILE_ELEMENTS = 2**20
SMALLEST_TILE = 256


class Terms(NamedTuple):
    """A loss and its parts, 0-d tensors, all means over rows of the normalised data.

    loss: what is minimised. reconstruction: sum_d (x - x_hat)^2. sparsity: the sparsity term without its weight.
    """

    loss: Tensor
    reconstruction: Tensor
    sparsity: Tensor


class Architecture:
    """Base of all architectures. `p` is the dict of tensors by name; x is (n, d) in the SAE's input units.

    settings: as `policylens.sae.settings.resolve` returns them. factor_dtype: of the factors of training's products.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.factor_dtype = DTYPES[settings["precision"]]
        self._buffers: Tensors = {}

    def shapes(self, d_in: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor, which is what a file must hold."""
        m = self.settings["latents"]
        return {"W_enc": (d_in, m), "b_enc": (m,), "W_dec": (m, d_in), "b_dec": (d_in,)}

    def initial(self, d_in: int, generator: torch.Generator) -> Tensors:
        """Parameters before the first step, float32 on the CPU, W_enc as the transpose of an (m, d) block of memory."""
        raise TypeError(f"{type(self).__name__} does not define its initial parameters")

    def initial_memory(self) -> Tensors:
        """What training keeps between steps beside the parameters (counts since a latent fired, say)."""
        return {}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (n, m), not negative."""
        raise TypeError(f"{type(self).__name__} does not define how it encodes")

    def decode(self, p: Tensors, f: Tensor) -> Tensor:
        """Reconstruction (n, d)."""
        return f @ p["W_dec"] + p["b_dec"]

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_in: int, progress: float = 1.0) -> Tensor:
        """The main loss from its terms (see :class:`Terms`), which it is linear in; auxiliary losses are apart."""
        raise TypeError(f"{type(self).__name__} does not define its objective")

    def loss(self, p: Tensors, x: Tensor, memory: Tensors, progress: float) -> Terms:
        """The loss over (n, d) normalised rows, as a formula. progress: share of the training done, 0 to 1."""
        raise TypeError(f"{type(self).__name__} does not define its loss")

    def gradients(self, p: Tensors, x: Tensor, into: Tensors, memory: Tensors, progress: float) -> Terms:
        """Write the loss's gradient into `into` (same names and shapes as `p`) and bring `memory` up to date."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in p.items()}
        rounded = self.factor_dtype is not torch.float32
        with torch.enable_grad(), torch.autocast(x.device.type, self.factor_dtype, enabled=rounded):
            terms = self.loss(leaves, x, memory, progress)
            slopes = torch.autograd.grad(terms.loss, list(leaves.values()))
        for name, slope in zip(leaves, slopes, strict=True):
            into[name].copy_(slope)
        return Terms(*(term.detach() for term in terms))

    def project(self, p: Tensors, gradients: Tensors) -> None:
        """Change the gradients in place before clipping and the step, where parameters are constrained."""

    def constrain(self, p: Tensors) -> None:
        """Bring the parameters back onto their constraint after a step, in place."""

    def tile_rows(self, x: Tensor) -> int:
        """Rows worked on at once: on a CPU so few that their (rows, m) block stays in its cache."""
        if x.device.type != "cpu":
            return max(SMALLEST_TILE, 256 * TILE_ELEMENTS // self.settings["latents"])
        return max(SMALLEST_TILE, TILE_ELEMENTS // self.settings["latents"])

    def buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory that is kept from step to step (fresh memory costs more than many of the products done in it)."""
        size = math.prod(shape)
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < size or kept.device != like.device or kept.dtype != like.dtype:
            kept = self._buffers[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return kept[:size].view(shape)


def random_directions(rows: int, d_in: int, generator: torch.Generator) -> Tensor:
    """(rows, d_in) unit vectors, uniform on the sphere."""
    directions = torch.randn(rows, d_in, generator=generator)
    return directions / directions.norm(dim=1, keepdim=True)


def tied(decoder: Tensor) -> Tensors:
    """Parameters with W_enc = W_dec^T and biases 0."""
    m, d_in = decoder.shape
    encoder = decoder.clone().T
    return {"W_enc": encoder, "b_enc": torch.zeros(m), "W_dec": decoder, "b_dec": torch.zeros(d_in)}
