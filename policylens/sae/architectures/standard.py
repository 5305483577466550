"""The standard SAE: ReLU latents, an L1 penalty weighted by the decoder's norms, no constraint on the norms.

    f     = ReLU(x W_enc + b_enc)
    x_hat = f W_dec + b_dec
    L     = mean over rows of [ sum_d (x - x_hat)^2 + lambda sum_i ||W_dec,i||_2 f_i ]

Source: Anthropic, "Update on how we train SAEs", Circuits Updates April 2024
(https://transformer-circuits.pub/2024/april-update/index.html#training-saes): loss, initialisation (random directions
with norms of 0.05 to 1, W_enc = W_dec^T, biases 0) and the scaling of the data. The norms here are uniform between
`initial_norms`; with 0.1 for all, which the source finds reasonable in most cases and which SAELens and
dictionary_learning use, the latents become sparse sooner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Architecture, Tensors, Terms, random_directions, tied
from policylens.sae.parallel import by_rows, row_norms

TINY = 1e-30


class Standard(Architecture):
    """ReLU latents with a penalty on f * ||W_dec||."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random decoder directions with norms of `initial_norms`; the encoder is the decoder's transpose."""
        m, (low, high) = self.settings["latents"], self.settings["initial_norms"]
        norms = torch.rand(m, 1, generator=generator) * (high - low) + low
        return tied(random_directions(m, d_in, generator) * norms, d_out, generator)

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (n, m)."""
        return torch.relu(x @ p["W_enc"] + p["b_enc"])

    @torch.no_grad()
    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`, by hand.

        The penalty's own part of dL/dW_dec is lambda mean(f)_i W_dec,i / ||W_dec,i||.
        """
        from policylens.sae.relu_gradients import relu_gradients

        n, weight = len(x), self.weight(progress)
        norms = row_norms(p["W_dec"])
        sums = relu_gradients(self, p, x, target, into, 2 / n, norms * (weight / n))
        shrink = (weight / n * sums.latents / norms.clamp_min(TINY)).unsqueeze(1)
        by_rows(Tensor.addcmul_, into["W_dec"], p["W_dec"], shrink)
        reconstruction, sparsity = sums.squares / n, torch.dot(sums.latents, norms) / n
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress)
        return Terms(loss, reconstruction, sparsity, sums.latents > 0)
