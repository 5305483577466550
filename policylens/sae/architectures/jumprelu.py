"""JumpReLU: each latent has a threshold of its own, which is learned, and the number of active latents is the penalty.

    a     = x W_enc + b_enc
    f     = a H(a - theta)                                            H: the step function; theta_i >= 0
    x_hat = f W_dec + b_dec                                           with ||W_dec,i||_2 = 1
    L     = mean over rows of [ ||x - x_hat||^2 + lambda sum_i H(a_i - theta_i) + mu sum_i ReLU(theta_i - a_i) ]

Steps have no slope, so theta learns by a pseudo-derivative, with the rectangle K = 1 where |a - theta| < eps/2:

    d f / d theta = -(theta / eps) K          d H / d theta = -(1 / eps) K

which estimates the true slope of the expected loss from the rows near the threshold. Without noise its rest is where
an activation stops being worth its price: theta = sqrt(lambda) (and eps/8 more, as only rows below theta show an
error, on average at theta - eps/4).

Source: Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse Autoencoders"
(2024), arXiv:2407.14435, sections 3 and 4. Three choices differ from it. (1) theta itself is the parameter, not its
logarithm: Adam moves a parameter by about the learning rate per step whatever its gradient, so a logarithm moves theta
by a share of theta only and a small threshold never leaves its place (SAELens issues 494 and 718). It is kept from
falling below 0. (2) eps and the initial theta (0.001 there, for rows of norm 1) stand in units of rows with norm
sqrt(d), in which a latent's a is of order 1 at the start: eps = 0.5 lets some percent of rows teach each threshold.
(3) mu, off by default, pulls latents that do not fire towards their thresholds.

From Anthropic's update of January 2025 (https://transformer-circuits.pub/2025/january-update/index.html) come mu (there
3e-6), `surrogate: all` (the pseudo-derivative reaches a too, with the opposite sign) and `penalty: tanh`
(sum_i tanh(4 f_i) instead of the count).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms, UnitNormDecoder, random_directions, tied

if TYPE_CHECKING:
    from policylens.sae.entry_gradients import Entries

TANH_SCALE = 4.0


class JumpReLU(UnitNormDecoder):
    """Latents above learned thresholds."""

    def shapes(self, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """Theta beside the usual tensors."""
        return super().shapes(d_in, d_out) | {"threshold": (self.settings["latents"],)}

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random unit decoder directions, the encoder is their transpose, equal thresholds."""
        m = self.settings["latents"]
        thresholds = torch.full((m,), float(self.settings["initial_threshold"]))
        return tied(random_directions(m, d_in, generator), d_out, generator) | {"threshold": thresholds}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m)."""
        a = x @ p["W_enc"] + p["b_enc"]
        return a * (a > p["threshold"])

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Active latents per row, or the sum of their tanh."""
        return torch.tanh(TANH_SCALE * f).sum(-1) if self.settings["penalty"] == "tanh" else (f > 0).float().sum(-1)

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file, with pseudo-derivatives where it steps."""
        a, theta = x @ p["W_enc"] + p["b_enc"], p["threshold"]
        step = self.step(a, theta)
        on = step.detach()
        f = a * on + theta.detach() * (step - on)
        reconstruction = (target - self.decode(p, f)).square().sum(1).mean()
        count = step if self.settings["penalty"] == "l0" else torch.tanh(TANH_SCALE * f)
        sparsity = count.sum(1).mean()
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress)
        if self.settings["preactivation_weight"]:
            loss = loss + self.settings["preactivation_weight"] * torch.relu(theta - a).sum(1).mean()
        return Terms(loss, reconstruction, sparsity, (on > 0).any(0))

    def step(self, a: Tensor, theta: Tensor) -> Tensor:
        """H(a - theta), (n, m), exact in value, with the rectangle as its derivative."""
        width = self.settings["bandwidth"]
        distance = (a if self.settings["surrogate"] == "all" else a.detach()) - theta
        near = (distance.detach().abs() < width / 2).to(a.dtype) / width
        return (distance.detach() > 0).to(a.dtype) + near * (distance - distance.detach())

    def gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, memory: Tensors, progress: float
    ) -> Terms:
        """The gradient of `loss`: on a CPU through the entries that have one, if these are few (mu gives all one)."""
        few = x.device.type == "cpu" and not self.settings["preactivation_weight"]
        entries = self._reached(p, x) if few else None
        if entries is None:
            return super().gradients(p, x, target, into, memory, progress)
        return self._sparse_gradients(p, x, target, into, entries, progress)

    @torch.no_grad()
    def _reached(self, p: Tensors, x: Tensor) -> Entries | None:
        """The entries with a > theta - eps/2, or None if they are too many."""
        from policylens.sae.entry_gradients import above

        return above(self, p["W_enc"], p["b_enc"] - p["threshold"] + self.settings["bandwidth"] / 2, x)

    @torch.no_grad()
    def _sparse_gradients(
        self, p: Tensors, x: Tensor, target: Tensor, into: Tensors, entries: Entries, progress: float
    ) -> Terms:
        """The gradient by hand, entry by entry.

        With E = f W_dec + b_dec - target: dL/dW_dec = 2/n f^T E, and dL/df = 2/n E W_dec^T + the penalty's part.
        """
        n, a = len(x), entries.products(x, p["W_enc"].T) + p["b_enc"].numpy()[entries.latents]
        on = a > p["threshold"].numpy()[entries.latents]
        active, f, error = entries.kept(on), a[on], self.buffer("errors", tuple(target.shape), target)
        squares = active.decode(f, p, target, error)
        error.mul_(2 / n)
        d_a, d_theta, penalty = self._slopes(p, entries, a, on, entries.products(error, p["W_dec"]), progress, n)
        reached, d_a = (entries, d_a) if self.settings["surrogate"] == "all" else (active, d_a[on])
        into["W_dec"].zero_(), into["W_enc"].zero_()
        active.accumulate(f, error, into["W_dec"])
        reached.accumulate(d_a, x, into["W_enc"].T)
        into["b_enc"].copy_(reached.sums(d_a))
        into["b_dec"].copy_(error.sum(0))
        into["threshold"].copy_(entries.sums(d_theta))
        reconstruction, sparsity = squares / n, squares.new_tensor(penalty / n)
        loss = self.objective(reconstruction, sparsity, target.shape[1], progress)
        return Terms(loss, reconstruction, sparsity, active.sums(np.ones_like(f)) > 0)

    def _slopes(
        self, p: Tensors, entries: Entries, a: np.ndarray, on: np.ndarray, d_f: np.ndarray, progress: float, n: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Every entry's dL/da and dL/dtheta, and the sum of the penalty. d_f: dL/df without the penalty's part.

        dL/dtheta = -(theta dL/df + dL/dH) K / eps; dL/da = dL/df H, less dL/dtheta if the surrogate is `all`. The
        penalty's part is lambda/n in dL/dH, or lambda/n 4 (1 - tanh(4 f)^2) in dL/df.
        """
        weight, width = np.float32(self.weight(progress) / n), np.float32(self.settings["bandwidth"])
        theta, d_step, penalty = p["threshold"].numpy()[entries.latents], weight, float(on.sum())
        if self.settings["penalty"] == "tanh":
            squashed = np.tanh(np.float32(TANH_SCALE) * a * on)
            d_f = d_f + weight * np.float32(TANH_SCALE) * (1 - squashed * squashed)
            d_step, penalty = np.float32(0), float(squashed.sum(dtype=np.float64))
        d_theta = (theta * d_f + d_step) * (np.abs(a - theta) < width / 2) / -width
        d_a = d_f * on - d_theta if self.settings["surrogate"] == "all" else d_f * on
        return d_a, d_theta, penalty

    @torch.no_grad()
    def constrain(self, p: Tensors) -> None:
        """Decoder rows of norm 1, thresholds not below 0."""
        super().constrain(p)
        p["threshold"].clamp_(min=0)

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """With the initial threshold."""
        super().revive(p, dead, encoders, decoders, centre)
        p["threshold"][dead] = float(self.settings["initial_threshold"])
