"""Rows of activations normalised by numbers of their own, and brought back; d numbers x_1..x_d make a row.

    into:  x' = (x - centre) / divisor            back:  x = x' spread + centre

kind        centre     spread                                              divisor
layer_norm  mean(x)    standard deviation, sqrt(sum (x - mean)^2 / (d-1))   spread + 1e-5
mean_abs    0          mean(|x|)                                           spread
rms         0          sqrt(mean(x^2))                                     spread

layer_norm is `normalize_activations: layer_norm` of SAELens 6.54.12 (`SAE._setup_activation_normalization`), which
multiplies by the spread alone on the way back: a reconstruction lacks 1e-5 / (spread + 1e-5) of what is to be about the
mean. rms is its `constant_norm_rescale`. mean_abs is what a published fine-tuning study of pi0.5 calls
`expected_average_only_in`. A row whose spread is 0 becomes 0, and comes back as its centre.

No weights can take this in, since each row has numbers of its own. What latents add to an activation is
spread(x) (f W_dec): it has a direction of its own for each latent, and a size that differs from row to row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.row_kinds import ROW_NORMS

EPSILON = 1e-5


class Scales(NamedTuple):
    """Numbers of rows x (..., d), each (..., 1). centre: None for 0."""

    centre: Tensor | None
    spread: Tensor
    divisor: Tensor

    def into(self, x: Tensor) -> Tensor:
        """Normalised rows, (..., d), as new memory."""
        return (x if self.centre is None else x - self.centre) / self.divisor

    def into_(self, x: Tensor) -> Tensor:
        """Normalise rows in place, to the same bits."""
        if self.centre is not None:
            x.sub_(self.centre)
        return x.div_(self.divisor)

    def back(self, x: Tensor) -> Tensor:
        """Normalised rows (..., d) in the units of the rows that these numbers are of."""
        x = x * self.spread
        return x if self.centre is None else x + self.centre


def scales_of(kind: str, x: Tensor) -> Scales:
    """The numbers of rows x (..., d). kind: one of ROW_NORMS. UserError for rows too short to have a spread."""
    if kind == "layer_norm":
        if x.shape[-1] < 2:
            raise UserError("row_norm layer_norm needs rows of at least two numbers: one has no spread; leave it out")
        centre = x.mean(dim=-1, keepdim=True)  # torch.std_mean takes four times as long
        spread = torch.linalg.vector_norm(x - centre, dim=-1, keepdim=True) / (x.shape[-1] - 1) ** 0.5
        return Scales(centre, spread, spread + EPSILON)
    if kind == "mean_abs":
        spread = x.abs().mean(dim=-1, keepdim=True)
    elif kind == "rms":
        spread = x.square().mean(dim=-1, keepdim=True).sqrt()
    else:
        raise UserError(f"row_norm {kind!r} is not known; there are: {', '.join(ROW_NORMS)}")
    return Scales(None, spread, spread.clamp_min(torch.finfo(x.dtype).tiny))
