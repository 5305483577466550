"""The plain SAE: ReLU latents, the mean of f as penalty, decoder directions of norm 1.

    f     = ReLU(x W_enc + b_enc)
    x_hat = f W_dec + b_dec                                                with ||W_dec,i||_2 = 1
    L     = mean over rows of [ 1/d ||x - x_hat||^2 + lambda 1/m sum_i f_i ]

The recipe of the study of a robot arm's controller (https://github.com/nicholaschenai/mech_interp_eureka, src/sae):
lambda 0.4, Adam at 1e-3, shuffled epochs in batches of 256, activations as they are (neither centred nor scaled).
There the decoder is normalised over the latents instead of the dimensions, a mistake that is not followed, and the
encoder takes x - b_dec and has two biases: the same functions. The loss is that of Bricken et al., "Towards
Monosemanticity" (2023), https://transformer-circuits.pub/2023/monosemantic-features, up to the two means; from there
come the norm 1 and the removal of the gradient along each direction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, UnitNormDecoder, random_directions


class PlainL1(UnitNormDecoder):
    """ReLU latents with a penalty on their mean."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """W_enc normal with variance 2 / d_in (Kaiming), random unit decoder directions, biases 0."""
        m = self.settings["latents"]
        encoder = torch.randn(m, d_in, generator=generator) * (2 / d_in) ** 0.5
        decoder = random_directions(m, d_out, generator)
        return {"W_enc": encoder.T, "b_enc": torch.zeros(m), "W_dec": decoder, "b_dec": torch.zeros(d_out)}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m)."""
        return torch.relu(x @ p["W_enc"] + p["b_enc"])

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Mean over latents, per row."""
        return f.mean(-1)

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_out: int, progress: float = 1.0) -> Tensor:
        """Squared error per dimension plus lambda times the mean latent."""
        return reconstruction / d_out + self.weight(progress) * sparsity

    @torch.no_grad()
    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`, by hand."""
        from policylens.sae.relu_gradients import relu_gradients

        n, d_out, m = len(x), target.shape[1], len(p["b_enc"])
        penalty = torch.full_like(p["b_enc"], self.weight(progress) / (n * m))
        sums = relu_gradients(self, p, x, target, into, 2 / (n * d_out), penalty)
        reconstruction, sparsity = sums.squares / n, sums.latents.sum() / (n * m)
        loss = self.objective(reconstruction, sparsity, d_out, progress)
        return Terms(loss, reconstruction, sparsity, sums.latents > 0)
