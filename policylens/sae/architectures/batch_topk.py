"""BatchTopK: the k n largest latents of a batch of n rows are kept, so that rows may differ in how many they need.

    a     = x W_enc + b_enc
    f     = ReLU(a) where a is among the n k largest of the batch, else 0;     afterwards, where a > theta
    x_hat = f W_dec + b_dec                                                         with ||W_dec,i||_2 = 1
    L     = mean over rows of 1/d ||x - x_hat||^2 + L_aux                           (`policylens.sae.auxiliary`)
    theta = running mean over batches of the smallest positive latent kept

A finished SAE has to encode a row by itself: it holds theta as the tensor `threshold`. In training theta is a moving
average with the weight `threshold_decay` on what it was (the source: a mean over many batches afterwards).
Source: Bussmann et al., "BatchTopK Sparse Autoencoders" (2024), arXiv:2412.06410, sections 2 and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, random_directions, tied
from policylens.sae.auxiliary import WithAuxiliary
from policylens.sae.parallel import row_norms

if TYPE_CHECKING:
    from policylens.sae.precision import Factors
    from policylens.sae.sparse_gradients import Code, Sums

THRESHOLD = "threshold"
"""Memory and tensor of a finished SAE: theta, () float32; 0 before the first step."""


ALIKE = 1e-3


class BatchTopK(WithAuxiliary):
    """On average k latents per row."""

    def shapes(self, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """Theta beside the usual tensors."""
        return super().shapes(d_in, d_out) | {THRESHOLD: ()}

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random unit decoder directions; the encoder is their transpose."""
        return tied(random_directions(self.settings["latents"], d_in, generator), d_out, generator)

    def initial_memory(self, start: Tensors | None = None) -> Tensors:
        """Theta beside what all architectures keep; anew from the first batch where `restart` scales latents apart."""
        theta = torch.zeros(()) if start is None else _scaled(start[THRESHOLD], start["W_dec"].norm(dim=1))
        return super().initial_memory(start) | {THRESHOLD: theta}

    def finish(self, p: Tensors, memory: Tensors) -> Tensors:
        """The parameters and theta."""
        return p | {THRESHOLD: memory[THRESHOLD]}

    def restart(self, finished: Tensors) -> Tensors:
        """The parameters alone."""
        return super().restart({name: tensor for name, tensor in finished.items() if name != THRESHOLD})

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m) above theta."""
        f = torch.relu(x @ p["W_enc"] + p["b_enc"])
        return f * (f > p[THRESHOLD])

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_out: int, progress: float = 1.0) -> Tensor:
        """Squared error per dimension; sparsity costs nothing."""
        return reconstruction / d_out

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file."""
        f = keep_largest_of_batch(x @ p["W_enc"] + p["b_enc"], self.settings["k"])
        error = target - self.decode(p, f)
        reconstruction = error.square().sum(1).mean()
        sparsity = self.penalty(p, x, f, p["W_dec"].norm(dim=1)).mean()
        loss = self.objective(reconstruction, sparsity, target.shape[1]) + self.auxiliary(p, x, error, memory)
        return Terms(loss, reconstruction, sparsity, (f > 0).any(0), {THRESHOLD: self.next_threshold(f, memory)})

    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`: through sparse codes on a CPU, by differentiating the formula elsewhere."""
        if x.device.type != "cpu":
            return super().gradients(p, x, target, into, memory, progress)
        return self._sparse_gradients(p, x, target, into, memory)

    @torch.no_grad()
    def _sparse_gradients(self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors) -> Terms:
        from policylens.sae.precision import Factors
        from policylens.sae.sparse_gradients import largest_of_batch

        factors = Factors(p, self)
        code = largest_of_batch(self, factors, x, self.settings["k"])
        loss, sums, smallest = self.code_gradients(p, x, target, code, factors, into, self.helped(memory))
        sparsity = torch.dot(sums.latents, row_norms(p["W_dec"])) / len(x)
        theta = self._moved(memory, p["b_enc"].new_tensor(smallest))
        return Terms(loss, sums.squares / len(x), sparsity, sums.latents > 0, {THRESHOLD: theta})

    def code_gradients(
        self, p: Tensors, x: Tensor, target: Tensor, code: Code, factors: Factors, into: Tensors, dead: Tensor
    ) -> tuple[Tensor, Sums, float]:
        """Write the gradient of the loss of a code into `into`; returns that loss, sums and the smallest positive."""
        from policylens.sae.sparse_gradients import code_gradients

        loss, sums, passes = code_gradients(self, p, x, target, code.rows, factors, into, dead)
        return loss, sums, min(part.smallest for part in passes)

    @torch.no_grad()
    def next_threshold(self, f: Tensor, memory: Tensors) -> Tensor:
        """Theta after a batch whose kept latents are f (n, m); unchanged by a batch without any."""
        return self._moved(memory, torch.where(f > 0, f, torch.inf).min())

    def _moved(self, memory: Tensors, smallest: Tensor) -> Tensor:
        old, decay = memory[THRESHOLD], self.settings["threshold_decay"]
        new = torch.where(old > 0, decay * old + (1 - decay) * smallest, smallest)
        return torch.where(smallest.isfinite(), new, old)


def _scaled(theta: Tensor, norms: Tensor) -> Tensor:
    """Theta times the norms (m,) of the decoder, if these are alike, else 0."""
    alike = torch.allclose(norms, norms.mean(), rtol=ALIKE)
    return theta * norms.mean() if alike else torch.zeros_like(theta)


def keep_largest_of_batch(a: Tensor, k: int) -> Tensor:
    """`a` (n, m) with everything but the n k largest positive entries set to 0."""
    f = torch.relu(a)
    flat = f.detach().flatten()
    count = min(len(f) * k, flat.numel())
    return f * (f >= flat.topk(count, sorted=False).values.min())
