"""Tied weights: the encoder is the decoder's transpose, and its directions have norm 1.

    f     = ReLU(x W_dec^T + b_enc)
    x_hat = f W_dec + b_dec                                         with ||W_dec,i||_2 = 1
    L     = mean over rows of [ ||x - x_hat||^2 + lambda sum_i f_i ]

Source: Cunningham et al., "Sparse Autoencoders Find Highly Interpretable Features in Language Models" (2023),
arXiv:2309.08600, section 2 (which has no b_dec). A finished SAE holds W_enc and W_dec like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors, UnitNormDecoder, random_directions

TOLERANCE = 1e-3


class Tied(UnitNormDecoder):
    """ReLU latents with one matrix for both directions."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """Random unit directions, biases 0."""
        m = self.settings["latents"]
        directions = random_directions(m, d_in, generator)
        return {"b_enc": torch.zeros(m), "W_dec": directions, "b_dec": torch.zeros(d_out)}

    def finish(self, p: Tensors, memory: Tensors) -> Tensors:
        """The same tensors and W_enc."""
        return p | {"W_enc": p["W_dec"].T}

    def restart(self, finished: Tensors) -> Tensors:
        """All but W_enc; UserError where that is not the transpose of a decoder with rows of norm 1."""
        p = super().restart(finished)
        encoder = p.pop("W_enc").T
        if not torch.allclose(encoder, p["W_dec"], rtol=0, atol=TOLERANCE):
            raise UserError("a tied SAE can only start from one whose encoder is the transpose of a unit-norm decoder")
        return p

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (..., m)."""
        return torch.relu(x @ p["W_enc"] + p["b_enc"])

    def penalty(self, p: Tensors, x: Tensor, f: Tensor, norms: Tensor) -> Tensor:
        """Sum over latents, per row."""
        return f.sum(-1)

    def revive(self, p: Tensors, dead: Tensor, encoders: Tensor, decoders: Tensor, centre: Tensor) -> None:
        """Here the decoder's directions encode as well."""
        p["W_dec"][dead] = decoders
        p["b_enc"][dead] = -(decoders @ centre)
