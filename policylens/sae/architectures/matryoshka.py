"""Matryoshka BatchTopK: nested dictionaries, each of which has to reconstruct by itself.

    f as in BatchTopK, over all m latents                                           (`architectures.batch_topk`)
    x_hat_j = f_1..j W_dec,1..j + b_dec         for each prefix width j             with ||W_dec,i||_2 = 1
    L       = mean over rows of 1/d sum over prefixes ||x - x_hat_j||^2 + L_aux     (`policylens.sae.auxiliary`)

The first latents must do with few others, so that they learn general features which narrower ones cannot absorb. The
setting `prefixes` gives the widths, or shares of the latents; the default is the source's 2048, 6144, 14336, 30720
and 65536 of 65536. L_aux models the error of the whole dictionary. Source: Bussmann et al., "Learning Multi-Level
Features with Matryoshka Sparse Autoencoders" (2025), arXiv:2503.17547, section 3.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import Tensor

from policylens.sae.architecture import Tensors, Terms
from policylens.sae.architectures.batch_topk import THRESHOLD, BatchTopK, keep_largest_of_batch
from policylens.sae.settings import prefix_widths

if TYPE_CHECKING:
    from policylens.sae.precision import Factors
    from policylens.sae.sparse_gradients import Code, Sums


class Matryoshka(BatchTopK):
    """BatchTopK with a loss for every prefix of its latents; `objective` is that of the whole dictionary alone."""

    def loss(self, p: Tensors, x: Tensor, target: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file."""
        f = keep_largest_of_batch(x @ p["W_enc"] + p["b_enc"], self.settings["k"])
        error, squares = target - p["b_dec"], []
        for start, width in itertools.pairwise([0, *prefix_widths(self.settings)]):
            error = error - f[:, start:width] @ p["W_dec"][start:width]
            squares.append(error.square().sum(1).mean())
        sparsity = self.penalty(p, x, f, p["W_dec"].norm(dim=1)).mean()
        loss = sum(squares) / target.shape[1] + self.auxiliary(p, x, error, memory)
        return Terms(loss, squares[-1], sparsity, (f > 0).any(0), {THRESHOLD: self.next_threshold(f, memory)})

    def code_gradients(
        self, p: Tensors, x: Tensor, target: Tensor, code: Code, factors: Factors, into: Tensors, dead: Tensor
    ) -> tuple[Tensor, Sums, float]:
        """Write the gradient of the loss of a code into `into`; that loss, the whole's sums, the smallest positive."""
        from policylens.sae.nested_gradients import nested_gradients

        return nested_gradients(self, p, x, target, code, prefix_widths(self.settings), factors, into, dead)
