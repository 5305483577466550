"""What an architecture is: how activations become latents and back, and the loss that is trained.

A new architecture is one file in `architectures/`: it says its tensors, `encode`, and `loss` as a formula. That is
enough to train, save, load, fine-tune and evaluate it. It may add `gradients`, written out by hand, where that is
faster than automatic differentiation of the formula; a test then compares the two.

An SAE reconstructs the activation that it takes; a transcoder another one. So a loss has a target, which for an SAE is
its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae.parallel import as_a_whole, by_rows
from policylens.sae.precision import DTYPES

Tensors = dict[str, Tensor]

TILE_ELEMENTS = 2**19
CHUNK_ELEMENTS = 2**26
SMALLEST_TILE = 256
TINY = 1e-30


SINCE = "rows_since_active"
"""Memory of every architecture: rows seen since each latent was last not zero, (m,) int64."""

RESAMPLED = "resampled"
"""Memory of every architecture: how many dead latents have been started anew, () int64."""


class Terms(NamedTuple):
    """A loss and its parts, 0-d tensors, all means over rows of the normalised data.

    loss: what is minimised. reconstruction: sum_d (target - x_hat)^2. sparsity: the sparsity term without its weight.
    fired: (m,) bool, which latents were not zero in some row. remembered: new values of the architecture's own memory.
    """

    loss: Tensor
    reconstruction: Tensor
    sparsity: Tensor
    fired: Tensor
    remembered: Tensors = {}  # noqa: RUF012


class Architecture:
    """Base of all architectures. `p` is the dict of tensors by name; x is (n, d_in), target (n, d_out), normalised.

    settings: as `policylens.sae.settings.resolve` returns them. factor_dtype: of the factors of training's products.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.factor_dtype = DTYPES[settings["precision"]]
        self.scratch: Tensors = {}

    def shapes(self, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of a finished SAE, which is what a file must hold."""
        m = self.settings["latents"]
        return {"W_enc": (d_in, m), "b_enc": (m,), "W_dec": (m, d_out), "b_dec": (d_out,)}

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Parameters before the first step, float32 on the CPU, W_enc as the transpose of an (m, d) block of memory."""
        raise TypeError(f"{type(self).__name__} does not define its initial parameters")

    def initial_memory(self, start: Tensors | None = None) -> Tensors:
        """What training keeps between steps beside the parameters. start: a finished SAE's tensors to go on from."""
        return {
            SINCE: torch.zeros(self.settings["latents"], dtype=torch.int64),
            RESAMPLED: torch.zeros((), dtype=torch.int64),
        }

    def finish(self, p: Tensors, memory: Tensors) -> Tensors:
        """The finished SAE's tensors (see `shapes`) from the parameters in training; may share their memory."""
        return p

    def restart(self, finished: Tensors) -> Tensors:
        """Parameters to go on training from, as new memory: the inverse of `finish`.

        Raises UserError for tensors that this architecture cannot train.
        """
        return {name: tensor.clone() for name, tensor in finished.items()}

    def biases(self, p: Tensors) -> dict[str, Tensor | float]:
        """Biases that are added to factor * (x W_enc), by name, and that factor: what folding a shift changes."""
        return {"b_enc": 1.0}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m) of x (..., d_in) by a finished SAE's tensors; a row's latents depend on that row alone."""
        raise TypeError(f"{type(self).__name__} does not define how it encodes")

    def decode(self, p: Tensors, f: Tensor) -> Tensor:
        """Reconstruction (..., d_out) by a finished SAE's tensors."""
        return f @ p["W_dec"] + p["b_dec"]

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Sparsity term without its weight, per row: (n,). norms: (m,) of the decoder, in units of normalised data."""
        return (f.abs() * norms).sum(-1)

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_out: int, progress: float = 1.0) -> Tensor:
        """The main loss from its terms (see :class:`Terms`), which it is linear in; auxiliary losses are apart.

        Here: the sum of squares plus the weighted penalty.
        """
        return reconstruction + self.weight(progress) * sparsity

    def per_square(self, d_out: int) -> float:
        """What the sum of squares of a row counts in the loss: 1, or less where the loss is a mean over dimensions."""
        one = torch.ones((), dtype=torch.float64)
        return float(self.objective(one, torch.zeros_like(one), d_out))

    def weight(self, progress: float) -> float:
        """Weight of the sparsity term at this share of the training: it rises linearly from 0 in the warm-up."""
        warmup = self.settings["sparsity_warmup"]
        return self.settings["sparsity"] * (min(1.0, progress / warmup) if warmup else 1.0)

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The loss over normalised rows, as a formula. progress: share of the training done, 0 to 1.

        Here: `objective` of the error of `decode(encode(x))` and of the penalty.
        """
        finished = self.finish(p, memory)
        f = self.encode(finished, x)
        reconstruction = (target - self.decode(finished, f)).square().sum(1).mean()
        sparsity = self.penalty(finished, x, f, finished["W_dec"].norm(dim=1)).mean()
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress)
        return Terms(loss, reconstruction, sparsity, (f != 0).any(0))

    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """Write the loss's gradient into `into` (same names and shapes as `p`)."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in p.items()}
        rounded = self.factor_dtype is not torch.float32
        precision = torch.autocast(x.device.type, self.factor_dtype, enabled=rounded)
        with as_a_whole(), torch.enable_grad(), precision:
            terms = self.loss(leaves, x, target, memory, progress)
            slopes = torch.autograd.grad(terms.loss, list(leaves.values()), allow_unused=True)
        for name, slope in zip(leaves, slopes, strict=True):
            into[name].zero_() if slope is None else into[name].copy_(slope)
        return Terms(terms.loss.detach(), terms.reconstruction.detach(), terms.sparsity.detach(), *terms[3:])

    def dead(self, memory: Tensors) -> Tensor:
        """Indices of the latents that count as dead: not active in the last `dead_after_rows` rows."""
        return (memory[SINCE] > self.settings["dead_after_rows"]).nonzero().squeeze(1)

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """Start the latents `dead` (k,) anew, in place.

        encoders: (k, d_in) their new columns of W_enc. decoders: (k, d_out) unit vectors, their new rows of W_dec.
        centre: (d_in,) activation at which their pre-activation is to be 0.
        """
        p["W_enc"].T[dead], p["W_dec"][dead] = encoders, decoders
        for name, factor in self.biases(p).items():
            factors = torch.as_tensor(factor, device=dead.device).expand(len(p[name]))
            p[name][dead] = -factors[dead] * (encoders @ centre)

    def project(self, p: Tensors, gradients: Tensors) -> None:
        """Change the gradients in place before clipping and the step, where parameters are constrained."""

    def constrain(self, p: Tensors) -> None:
        """Bring the parameters back onto their constraint after a step, in place."""

    def chunk_rows(self, x: Tensor) -> int:
        """Rows whose (rows, m) block of latents is in memory at once."""
        elements = CHUNK_ELEMENTS if x.device.type == "cpu" else 4 * CHUNK_ELEMENTS
        return max(SMALLEST_TILE, elements // self.settings["latents"])

    def tile_rows(self, x: Tensor) -> int:
        """Rows worked on at once: on a CPU so few that their (rows, m) block stays in a core's cache."""
        if x.device.type != "cpu":
            return self.chunk_rows(x)
        return max(SMALLEST_TILE, TILE_ELEMENTS // self.settings["latents"])

    def buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory that is kept from step to step (fresh memory costs more than many of the products done in it).

        Nothing in it outlasts a step, so that architectures which take steps in turn may have one `scratch` together.
        """
        size = math.prod(shape)
        kept = self.scratch.get(name)
        if kept is None or kept.numel() < size or kept.device != like.device or kept.dtype != like.dtype:
            kept = self.scratch[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return kept[:size].view(shape)


class UnitNormDecoder(Architecture):
    """Base of architectures whose decoder rows have norm 1, so that a penalty on f cannot be met by scaling."""

    def restart(self, finished: Tensors) -> Tensors:
        """Parameters that give the same reconstruction, each row's norm moved into the encoder (and any threshold)."""
        p = super().restart(finished)
        norms = p["W_dec"].norm(dim=1)
        for name in ("W_enc", "threshold", *self.biases(p)):
            if name in p:
                p[name].mul_(norms)
        self.constrain(p)
        return p

    @torch.no_grad()
    def project(self, p: Tensors, gradients: Tensors) -> None:
        """Take the part along each decoder row out of that row's gradient."""
        if p["W_dec"].device.type == "cpu":
            loop = kernels().take_out_parallel
            by_rows(lambda gradient, rows: loop(gradient.numpy(), rows.numpy()), gradients["W_dec"], p["W_dec"])
            return
        along = (gradients["W_dec"] * p["W_dec"]).sum(1, keepdim=True)
        gradients["W_dec"].addcmul_(p["W_dec"], along, value=-1)

    @torch.no_grad()
    def constrain(self, p: Tensors) -> None:
        """Bring every decoder row back to norm 1."""
        if p["W_dec"].device.type == "cpu":
            loop = kernels().normalise
            by_rows(lambda rows: loop(rows.numpy(), np.float32(TINY)), p["W_dec"])
            return
        p["W_dec"].div_(p["W_dec"].norm(dim=1, keepdim=True).clamp_min(TINY))


def kernels() -> ModuleType:
    """The compiled loops; imported when they are needed, since compiling takes seconds where they are not cached."""
    from policylens.sae import kernels

    return kernels


def random_directions(rows: int, d_in: int, generator: torch.Generator) -> Tensor:
    """(rows, d_in) unit vectors, uniform on the sphere."""
    directions = torch.randn(rows, d_in, generator=generator)
    return directions / directions.norm(dim=1, keepdim=True)


def tied(directions: Tensor, d_out: int, generator: torch.Generator) -> Tensors:
    """Parameters with biases 0 and both matrices from `directions` (m, d_in): W_enc = directions^T, W_dec = directions.

    Where the output has another width, the decoder's directions are random, with the same norms.
    """
    m, d_in = directions.shape
    decoder = directions
    if d_out != d_in:
        decoder = random_directions(m, d_out, generator) * directions.norm(dim=1, keepdim=True)
    return {"W_enc": directions.clone().T, "b_enc": torch.zeros(m), "W_dec": decoder, "b_dec": torch.zeros(d_out)}
