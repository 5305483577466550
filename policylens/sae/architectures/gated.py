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

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, UnitNormDecoder, random_directions, tied

if TYPE_CHECKING:
    from policylens.sae.entry_gradients import Entries


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

    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`: on a CPU through the entries with an open gate, if these are few."""
        entries = self._open(p, x) if x.device.type == "cpu" else None
        if entries is None:
            return super().gradients(p, x, target, into, memory, progress)
        return self._sparse_gradients(p, x, target, into, entries, progress)

    @torch.no_grad()
    def _open(self, p: Tensors, x: Tensor) -> Entries | None:
        """The entries with pi > 0, or None if they are too many."""
        from policylens.sae.entry_gradients import above

        return above(self, p["W_enc"], p["b_gate"], x)

    @torch.no_grad()
    def _sparse_gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, entries: Entries, progress: float
    ) -> Terms:
        """The gradient by hand, entry by entry, with s = x W_enc.

        With E = f W_dec + b_dec - target and E' the same of ReLU(pi), whose decoder is fixed: dL/dW_dec = 2/n f^T E,
        dL/dmag = 2/n E W_dec^T where f > 0, dL/dpi = 2/n E' W_dec^T + lambda/n where pi > 0,
        dL/ds = dL/dpi + exp(r_mag) dL/dmag, dL/dr_mag = exp(r_mag) s dL/dmag.
        """
        n, weight = len(x), np.float32(self.weight(progress) / len(x))
        shared, scale = entries.products(x, p["W_enc"].T), p["r_mag"].exp().numpy()[entries.latents]
        gate = np.maximum(shared + p["b_gate"].numpy()[entries.latents], 0)
        f = np.maximum(scale * shared + p["b_mag"].numpy()[entries.latents], 0) * (gate > 0)
        d_gate, by_gate, _ = self._back(p, target, entries, gate, 2 / n)
        d_mag, squares, error = self._back(p, target, entries, f, 2 / n)
        d_gate += weight * (gate > 0)
        into["W_dec"].zero_(), into["W_enc"].zero_()
        entries.accumulate(f, error, into["W_dec"])
        entries.accumulate(d_gate + scale * d_mag, x, into["W_enc"].T)
        into["b_dec"].copy_(error.sum(0))
        for name, slopes in {"b_gate": d_gate, "b_mag": d_mag, "r_mag": scale * shared * d_mag}.items():
            into[name].copy_(entries.sums(slopes))
        reconstruction, sparsity = squares / n, squares.new_tensor(gate.sum(dtype=np.float64) / n)
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress) + by_gate / n
        return Terms(loss, reconstruction, sparsity, entries.sums(f) > 0)

    def _back(
        self, p: Tensors, target: Tensor, entries: Entries, values: np.ndarray, factor: float
    ) -> tuple[np.ndarray, Tensor, Tensor]:
        """Slopes of factor/2 ||E||^2 where the values are positive, ||E||^2, and factor E, in memory that is kept."""
        error = self.buffer("errors", tuple(target.shape), target)
        squares = entries.decode(values, p, target, error)
        slopes = entries.products(error.mul_(factor), p["W_dec"])
        return slopes * (values > 0), squares, error

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """Gate and magnitude start equal."""
        p["r_mag"][dead] = 0.0
        super().revive(p, dead, encoders, decoders, centre)
