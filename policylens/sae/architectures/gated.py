"""Gated: which latents are active and how large they are is decided apart, so that the penalty shrinks nothing.

    pi    = x W_enc + b_gate
    mag   = ReLU(exp(r_mag) (x W_enc) + b_mag)
    f     = mag where pi > 0, else 0
    x_hat = f W_dec + b_dec                                                          with ||W_dec,i||_2 = 1
    L     = mean over rows of [ ||x - x_hat||^2 + lambda sum_i ReLU(pi_i) + ||x - ReLU(pi) W_dec' - b_dec'||^2 ]

W_dec' and b_dec' are W_dec and b_dec held fixed: the third term teaches the gate alone, which the step hides from the
first. Source: Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders" (2024),
arXiv:2404.16014, section 3 (there the encoder takes x - b_dec: the same functions).
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, UnitNormDecoder, random_directions, tied


class Gated(UnitNormDecoder):
    """Latents with a gate and a magnitude from one encoder."""

    def shapes(self, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """Two biases and the magnitudes' log scale instead of b_enc."""
        usual, own = super().shapes(d_in, d_out), (self.settings["latents"],)
        del usual["b_enc"]
        return usual | {"b_gate": own, "b_mag": own, "r_mag": own}

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random unit decoder directions, the encoder is their transpose, all else 0."""
        usual = tied(random_directions(self.settings["latents"], d_in, generator), d_out, generator)
        zeros = usual.pop("b_enc")
        return usual | {name: zeros.clone() for name in ("b_gate", "b_mag", "r_mag")}

    def biases(self, p: Tensors) -> dict[str, Tensor | float]:
        """The magnitude takes exp(r_mag) times what the gate takes."""
        return {"b_gate": 1.0, "b_mag": p["r_mag"].exp()}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m)."""
        shared = x @ p["W_enc"]
        return torch.relu(p["r_mag"].exp() * shared + p["b_mag"]) * (shared + p["b_gate"] > 0)

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Sum of the gates' positive parts, per row."""
        return torch.relu(x @ p["W_enc"] + p["b_gate"]).sum(-1)

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file."""
        shared = x @ p["W_enc"]
        gate = torch.relu(shared + p["b_gate"])
        f = torch.relu(p["r_mag"].exp() * shared + p["b_mag"]) * (gate > 0)
        reconstruction = (target - self.decode(p, f)).square().sum(1).mean()
        sparsity = gate.sum(1).mean()
        by_gate = (target - gate @ p["W_dec"].detach() - p["b_dec"].detach()).square().sum(1).mean()
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress) + by_gate
        return Terms(loss, reconstruction, sparsity, (f > 0).any(0))

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """Gate and magnitude start equal."""
        p["r_mag"][dead] = 0.0
        super().revive(p, dead, encoders, decoders, centre)
