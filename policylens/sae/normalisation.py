"""Normalising activations for training, and folding that into the weights so that an SAE takes raw activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError

CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Normalisation:
    """Statistics of the training rows, and what is done with them: x' = (x - shift) * scale.

    mean: (d,) float32, the rows' mean, kept whether or not it is subtracted.
    centre: whether `mean` is subtracted.
    scale: factor after centring; 1 where rescaling is off.
    """

    mean: Tensor
    centre: bool
    scale: float

    @property
    def shift(self) -> Tensor:
        """(d,) what is subtracted: the mean, or zeros."""
        return self.mean if self.centre else torch.zeros_like(self.mean)

    def apply(self, x: Tensor) -> Tensor:
        """Normalised rows, (n, d), as new memory."""
        return (x - self.shift.to(x)) * self.scale

    def apply_(self, x: Tensor) -> Tensor:
        """Normalise (n, d) rows in place."""
        if self.centre:
            x.sub_(self.mean.to(x))
        return x.mul_(self.scale) if self.scale != 1 else x


def measure(activations: Tensor, *, centre: bool, rescale: bool) -> Normalisation:
    """Statistics of (n, d) training rows; the scale makes the mean norm of a row sqrt(d).

    Source of the scaling: Anthropic, "Update on how we train SAEs", Circuits Updates April 2024
    (https://transformer-circuits.pub/2024/april-update/index.html#training-saes).
    Raises UserError where all rows are equal (nothing is left to scale).
    """
    total = sum(chunk.sum(0, dtype=torch.float64) for chunk in activations.split(CHUNK_ROWS))
    mean = (total / len(activations)).float()
    scale = 1.0
    if rescale:
        shift = mean if centre else torch.zeros_like(mean)
        norms = sum(_sum_of_norms(chunk, shift) for chunk in activations.split(CHUNK_ROWS))
        if norms == 0:
            raise UserError(f"all activations are {'equal' if centre else 'zero'}: there is nothing to learn")
        scale = float(np.float32(activations.shape[1] ** 0.5 * len(activations) / norms))
    return Normalisation(mean.cpu(), centre, scale)


def _sum_of_norms(rows: Tensor, shift: Tensor) -> float:
    return float((rows.float() - shift).norm(dim=1).sum(dtype=torch.float64))


def fold(parameters: dict[str, Tensor], normalisation: Normalisation) -> dict[str, Tensor]:
    """Parameters of the SAE on raw rows that equals the given one on normalised rows.

    With x' = (x - c) s: pre-activations x' W_enc + b_enc = x (s W_enc) + (b_enc - s c W_enc), so latents are unchanged
    and so are any further tensors of an architecture (they act on pre-activations); the reconstruction is
    x_hat' / s + c. Computed in float64, returned in the parameters' own precision.
    """
    shift, scale = normalisation.shift.double(), normalisation.scale
    exact = {name: tensor.detach().cpu().double() for name, tensor in parameters.items()}
    folded = exact | {
        "W_enc": exact["W_enc"] * scale,
        "b_enc": exact["b_enc"] - scale * (shift @ exact["W_enc"]),
        "W_dec": exact["W_dec"] / scale,
        "b_dec": exact["b_dec"] / scale + shift,
    }
    return {name: tensor.to(parameters[name].dtype).contiguous() for name, tensor in folded.items()}
