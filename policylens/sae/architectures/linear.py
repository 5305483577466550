"""The linear bottleneck: no ReLU, latents may be negative, and lambda finds the share of active latents by itself.

    z     = x W_enc + b_enc
    x_hat = z W_dec + b_dec
    L     = mean over rows of [ 1/d ||x - x_hat||^2 + lambda 1/m sum_i |z_i| ||W_dec,i||_2 ]

    after each step:  ln lambda += rate * clamp((share - target) / target, -1, 1)

share: of the batch's latents with |z_i| ||W_dec,i|| above `active_threshold`. target: `sparsity_target`; null: lambda
stays as it is. The recipe is that of the LSTM study in Metta (mettagrid's "SAE": Xavier initialisation, L1 weight
1e-3, Adam at 1e-3, batches of 32, a bottleneck narrower than the activation, a sparsity target of 0.1 that it records
and does not act on). Its penalty leaves the decoder's norms out, which a linear code evades altogether: it shrinks z
and grows W_dec. With the norms it cannot.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Architecture, Tensors, Terms

WEIGHT = "sparsity_weight"
"""Memory: lambda as it stands, () float32."""

LEAST, MOST = 1e-6, 1e3


class Linear(Architecture):
    """Latents that are linear in the activation."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Both matrices uniform (Xavier), biases 0."""
        m = self.settings["latents"]
        encoder, decoder = xavier(m, d_in, generator), xavier(m, d_out, generator)
        return {"W_enc": encoder.T, "b_enc": torch.zeros(m), "W_dec": decoder, "b_dec": torch.zeros(d_out)}

    def initial_memory(self, start: Tensors | None = None) -> Tensors:
        """Lambda beside what all architectures keep."""
        return super().initial_memory(start) | {WEIGHT: torch.tensor(float(self.settings["sparsity"]))}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m), of either sign."""
        return x @ p["W_enc"] + p["b_enc"]

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Mean over latents of |z| ||W_dec||, per row."""
        return (f.abs() * norms).mean(-1)

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_out: int, progress: float = 1.0) -> Tensor:
        """Squared error per dimension plus the penalty, weighted as at the start of the training."""
        return reconstruction / d_out + self.settings["sparsity"] * sparsity

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file, with lambda as it stands."""
        z, norms = self.encode(p, x), p["W_dec"].norm(dim=1)
        reconstruction = (target - self.decode(p, z)).square().sum(1).mean()
        sparsity = self.penalty(p, x, z, norms).mean()
        loss = reconstruction / target.shape[1] + memory[WEIGHT] * sparsity
        share = (z.detach().abs() * norms.detach() > self.settings["active_threshold"]).float().mean()
        return Terms(loss, reconstruction, sparsity, (z != 0).any(0), {WEIGHT: self.adapted(memory[WEIGHT], share)})

    def adapted(self, weight: Tensor, share: Tensor) -> Tensor:
        """Lambda after a batch of which this share of the latents was active."""
        target = self.settings["sparsity_target"]
        if target is None:
            return weight
        change = ((share - target) / target).clamp(-1, 1) * self.settings["target_rate"]
        return (weight * change.exp()).clamp(LEAST, MOST)


def xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) uniform within +- sqrt(6 / (rows + columns))."""
    bound = (6 / (rows + columns)) ** 0.5
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound
