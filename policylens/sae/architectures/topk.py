"""TopK: every row keeps its k largest latents; nothing pulls on their size.

    a     = x W_enc + b_enc
    f     = ReLU(a) where a is among the k largest of its row, else 0
    x_hat = f W_dec + b_dec                      with ||W_dec,i||_2 = 1
    L     = mean over rows of 1/d [ ||x - x_hat||^2 + alpha ||e - z W_dec||^2 ],    e = x - x_hat, held fixed,
            z = the k_aux largest ReLU(a) among dead latents (0 where none is dead)

As the data are scaled so that the mean norm is sqrt(d), the first term is close to the share of variance that is not
explained. Source: Gao et al., "Scaling and evaluating sparse autoencoders" (2024), arXiv:2406.04093, sections 2.3 and
A.2 (AuxK, alpha = 1/32; unit-norm decoder with the parallel part of its gradient removed; tied initialisation).
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, random_directions, tied
from policylens.sae.auxiliary import WithAuxiliary, keep_largest
from policylens.sae.parallel import row_norms


class TopK(WithAuxiliary):
    """At most k latents per row."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random unit decoder directions; the encoder is their transpose."""
        return tied(random_directions(self.settings["latents"], d_in, generator), d_out, generator)

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m), at most k of a row not zero."""
        return keep_largest(x @ p["W_enc"] + p["b_enc"], self.settings["k"])

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_out: int, progress: float = 1.0) -> Tensor:
        """Squared error per dimension; sparsity costs nothing."""
        return reconstruction / d_out

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file, computed densely."""
        f = self.encode(p, x)
        error = target - self.decode(p, f)
        reconstruction = error.square().sum(1).mean()
        sparsity = self.penalty(p, x, f, p["W_dec"].norm(dim=1)).mean()
        loss = self.objective(reconstruction, sparsity, target.shape[1]) + self.auxiliary(p, x, error, memory)
        return Terms(loss, reconstruction, sparsity, (f > 0).any(0))

    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`: through sparse codes on a CPU, by differentiating the formula elsewhere."""
        if x.device.type != "cpu":
            return super().gradients(p, x, target, into, memory, progress)
        return self._sparse_gradients(p, x, target, into, self.helped(memory))

    @torch.no_grad()
    def _sparse_gradients(self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, dead: Tensor) -> Terms:
        from policylens.sae.precision import Factors
        from policylens.sae.sparse_gradients import code_gradients, largest

        factors = Factors(p, self)
        choose = largest(self, factors, x, self.settings["k"])
        loss, sums, _ = code_gradients(self, p, x, target, choose, factors, into, dead)
        sparsity = torch.dot(sums.latents, row_norms(p["W_dec"])) / len(x)
        return Terms(loss, sums.squares / len(x), sparsity, sums.latents > 0)
