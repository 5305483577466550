"""The standard SAE: ReLU latents, an L1 penalty weighted by the decoder's norms, no constraint on the norms.

    f     = ReLU(x W_enc + b_enc)
    x_hat = f W_dec + b_dec
    L     = mean over rows of [ sum_d (x - x_hat)^2 + lambda sum_i ||W_dec,i||_2 f_i ]

Source: Anthropic, "Update on how we train SAEs", Circuits Updates April 2024
(https://transformer-circuits.pub/2024/april-update/index.html#training-saes): loss, initialisation (random directions
with norms U[0.05, 1], W_enc = W_dec^T, biases 0) and the scaling of the data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Architecture, Tensors, Terms, random_directions, tied
from policylens.sae.precision import add_product

SMALLEST_NORM, LARGEST_NORM = 0.05, 1.0
TINY = 1e-30


class Standard(Architecture):
    """ReLU latents with a penalty on f * ||W_dec||."""

    def initial(self, d_in: int, generator: torch.Generator) -> Tensors:
        """Random decoder directions with norms U[0.05, 1]; the encoder is the decoder's transpose."""
        m = self.settings["latents"]
        norms = torch.rand(m, 1, generator=generator) * (LARGEST_NORM - SMALLEST_NORM) + SMALLEST_NORM
        return tied(random_directions(m, d_in, generator) * norms)

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (n, m)."""
        return torch.relu(x @ p["W_enc"] + p["b_enc"])

    def weight(self, progress: float) -> float:
        """Lambda at this share of the training."""
        warmup = self.settings["sparsity_warmup"]
        return self.settings["sparsity"] * (min(1.0, progress / warmup) if warmup else 1.0)

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_in: int, progress: float = 1.0) -> Tensor:
        """Squared error plus lambda times the penalty."""
        return reconstruction + self.weight(progress) * sparsity

    def loss(self, p: Tensors, x: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file."""
        f = self.encode(p, x)
        reconstruction = (x - self.decode(p, f)).square().sum(1).mean()
        sparsity = (f * p["W_dec"].norm(dim=1)).sum(1).mean()
        return Terms(self.objective(reconstruction, sparsity, x.shape[1], progress), reconstruction, sparsity)

    @torch.no_grad()
    def gradients(self, p: Tensors, x: Tensor, into: Tensors, memory: Tensors, progress: float) -> Terms:
        """The gradient of `loss`, tile by tile of rows, in memory that is kept.

        With E = x_hat - x and H = f: dL/dW_dec = 2/n H^T E + lambda mean(f)_i W_dec,i / ||W_dec,i||,
        dL/df = 2/n E W_dec^T + lambda/n ||W_dec|| where f > 0, and dL/dW_enc = x^T dL/df.
        """
        n, weight = len(x), self.weight(progress)
        norms = p["W_dec"].norm(dim=1)
        sums, squares = torch.zeros_like(norms), x.new_zeros(())
        factors = {name: tensor.to(self.factor_dtype) for name, tensor in p.items()}
        for gradient in into.values():
            gradient.zero_()
        for tile in x.split(self.tile_rows(x)):
            squares += self._add_tile(factors, tile, into, sums, norms * (weight / n), 2 / n)
        into["W_dec"].addcmul_(p["W_dec"], (weight / n * sums / norms.clamp_min(TINY)).unsqueeze(1))
        sparsity = torch.dot(sums, norms) / n
        return Terms(self.objective(squares / n, sparsity, x.shape[1], progress), squares / n, sparsity)

    def _add_tile(self, p: Tensors, x: Tensor, into: Tensors, sums: Tensor, penalty: Tensor, slope: float) -> Tensor:
        """Add one tile's part to the gradients and to the latents' sums; returns its sum of squared errors.

        p: parameters in the precision of products; everything else is float32.
        """
        rows, dtype = x.to(self.factor_dtype), self.factor_dtype
        shape = (len(x), len(sums))
        f = torch.addmm(p["b_enc"], rows, p["W_enc"], out=self.buffer("latents", shape, rows)).relu_()
        decoded = torch.addmm(p["b_dec"], f, p["W_dec"], out=self.buffer("decoded", tuple(x.shape), rows))
        error = torch.sub(decoded, x, out=self.buffer("error", tuple(x.shape), x))
        squares = torch.dot(error.view(-1), error.view(-1))
        sums += f.sum(0, dtype=sums.dtype)
        into["b_dec"].add_(error.sum(0), alpha=slope)
        slopes = error.mul_(slope).to(dtype)
        add_product(into["W_dec"], f.T, slopes)
        back = torch.addmm(penalty.to(dtype), slopes, p["W_dec"].T, out=self.buffer("back", shape, rows))
        torch.ops.aten.threshold_backward.grad_input(back, f, 0.0, grad_input=back)
        add_product(into["W_enc"].T, back.T, rows)
        into["b_enc"].add_(back.sum(0, dtype=sums.dtype))
        return squares
