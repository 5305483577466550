"""AuxK, the loss by which dead latents learn the error that the others leave.

    e = target - x_hat, held fixed          z = the k_aux largest ReLU(a) of the dead latents, per row
    L_aux = alpha mean over rows of 1/d ||e - z W_dec||^2           (0 where no latent is dead)

The error is held fixed (detached), as in the source: only the dead latents are to move, not the ones that made the
error. Source: Gao et al., "Scaling and evaluating sparse autoencoders" (2024), arXiv:2406.04093, section A.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, UnitNormDecoder


class WithAuxiliary(UnitNormDecoder):
    """Base of the TopK family; settings `auxiliary_weight` (alpha) and `auxiliary_k`."""

    def helped(self, memory: Tensors) -> Tensor:
        """Indices of the dead latents that model the error: none if they get no loss of their own."""
        dead = self.dead(memory)
        return dead if self.settings["auxiliary_weight"] else dead[:0]

    def auxiliary(self, p: Tensors, x: Tensor, error: Tensor, memory: Tensors) -> Tensor:
        """L_aux, 0-d. error: (n, d_out) target - x_hat."""
        dead = self.helped(memory)
        if not len(dead):
            return error.new_zeros(())
        a = x @ p["W_enc"][:, dead] + p["b_enc"][dead]
        z = keep_largest(a, min(self.settings["auxiliary_k"], len(dead)))
        rest = error.detach() - z @ p["W_dec"][dead]
        return self.settings["auxiliary_weight"] * rest.square().sum(1).mean() / error.shape[1]


def keep_largest(a: Tensor, k: int) -> Tensor:
    """`a` (..., m) with everything but the k largest positive entries of each row set to 0."""
    values, indices = a.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(a).scatter(-1, indices, torch.relu(values))
