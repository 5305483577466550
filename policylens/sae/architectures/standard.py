"""The standard SAE: ReLU latents, an L1 penalty weighted by the decoder's norms, no constraint on the norms.

    f     = ReLU(x W_enc + b_enc)
    x_hat = f W_dec + b_dec
    L     = mean over rows of [ sum_d (x - x_hat)^2 + lambda sum_i ||W_dec,i||_2 f_i ]

Source: Anthropic, "Update on how we train SAEs", Circuits Updates April 2024
(https://transformer-circuits.pub/2024/april-update/index.html#training-saes): loss, initialisation (random directions
with norms of 0.05 to 1, W_enc = W_dec^T, biases 0) and the scaling of the data. The norms here are uniform between
`initial_norms`; the source finds 0.1 for all reasonable in most cases, and SAELens and dictionary_learning use it. With
`subtract_b_dec`, as in both, f = ReLU((x - b_dec) W_enc + b_enc) in training, so that b_dec moves all latents at once;
the finished SAE has b_enc - b_dec W_enc as its b_enc.
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

    @property
    def subtracts(self) -> bool:
        """Whether the encoder takes x - b_dec in training."""
        return self.settings.get("subtract_b_dec", False)

    def finish(self, p: Tensors, memory: Tensors) -> Tensors:
        """The parameters, with a b_enc that takes x as it is."""
        return p | {"b_enc": p["b_enc"] - p["b_dec"] @ p["W_enc"]} if self.subtracts else p

    def restart(self, finished: Tensors) -> Tensors:
        """A copy, with a b_enc that takes x - b_dec where training does."""
        p = super().restart(finished)
        if self.subtracts:
            p["b_enc"] += p["b_dec"] @ p["W_enc"]
        return p

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """With biases for the input that training takes."""
        super().revive(p, dead, encoders, decoders, centre - p["b_dec"] if self.subtracts else centre)

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
        sums = relu_gradients(self, self.finish(p, memory), x, target, into, 2 / n, norms * (weight / n))
        if self.subtracts:
            _add_shift(p, into)
        shrink = (weight / n * sums.latents / norms.clamp_min(TINY)).unsqueeze(1)
        by_rows(Tensor.addcmul_, into["W_dec"], p["W_dec"], shrink)
        reconstruction, sparsity = sums.squares / n, torch.dot(sums.latents, norms) / n
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress)
        return Terms(loss, reconstruction, sparsity, sums.latents > 0)


def _add_shift(p: Tensors, into: Tensors) -> None:
    """Add what W_enc and b_dec get through the bias b_enc - b_dec W_enc, whose gradient `into` holds as b_enc's."""
    slopes = into["b_enc"]
    by_rows(lambda rows, some: rows.addr_(some, p["b_dec"], alpha=-1), into["W_enc"].T, slopes)
    into["b_dec"].addmv_(p["W_enc"], slopes, alpha=-1)
