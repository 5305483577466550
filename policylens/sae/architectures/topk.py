"""TopK: every row keeps its k largest latents; nothing pulls on their size.

    a     = x W_enc + b_enc
    f     = ReLU(a) where a is among the k largest of its row, else 0
    x_hat = f W_dec + b_dec                      with ||W_dec,i||_2 = 1
    L     = mean over rows of 1/d [ ||x - x_hat||^2 + alpha ||e - z W_dec||^2 ],    e = x - x_hat, held fixed,
            z = the k_aux largest ReLU(a) among dead latents (0 where none is dead)

As the data are scaled so that the mean norm is sqrt(d), the first term is close to the share of variance that is not
explained. Source: Gao et al., "Scaling and evaluating sparse autoencoders" (2024), arXiv:2406.04093, sections 2.3 and
A.2 (AuxK, alpha = 1/32; unit-norm decoder with the parallel part of its gradient removed; tied initialisation).
"""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.sae.architecture import Architecture, Tensors, Terms, random_directions, tied

SINCE = "rows_since_active"


class TopK(Architecture):
    """At most k latents per row."""

    def initial(self, d_in: int, generator: torch.Generator) -> Tensors:
        """Random unit decoder directions; the encoder is their transpose."""
        return tied(random_directions(self.settings["latents"], d_in, generator))

    def initial_memory(self) -> Tensors:
        """Rows seen since each latent fired, (m,) int64."""
        return {SINCE: torch.zeros(self.settings["latents"], dtype=torch.int64)}

    def encode(self, p: Tensors, x: Tensor) -> Tensor:
        """Latents (n, m), at most k of a row not zero."""
        return keep_largest(x @ p["W_enc"] + p["b_enc"], self.settings["k"])

    def objective(self, reconstruction: Tensor, sparsity: Tensor, d_in: int, progress: float = 1.0) -> Tensor:
        """Squared error per dimension; sparsity costs nothing."""
        return reconstruction / d_in

    def dead(self, memory: Tensors) -> Tensor:
        """Indices of the latents that count as dead; none if they get no loss of their own."""
        if not self.settings["auxiliary_weight"]:
            return memory[SINCE].new_empty(0)
        return (memory[SINCE] > self.settings["dead_after_rows"]).nonzero().squeeze(1)

    def loss(self, p: Tensors, x: Tensor, memory: Tensors, progress: float) -> Terms:
        """The formula at the top of this file, computed densely."""
        f = self.encode(p, x)
        error = x - self.decode(p, f)
        reconstruction = error.square().sum(1).mean()
        sparsity = (f * p["W_dec"].norm(dim=1)).sum(1).mean()
        loss = self.objective(reconstruction, sparsity, x.shape[1])
        dead = self.dead(memory)
        if len(dead):
            a = x @ p["W_enc"][:, dead] + p["b_enc"][dead]
            z = keep_largest(a, min(self.settings["auxiliary_k"], len(dead)))
            rest = error.detach() - z @ p["W_dec"][dead]
            loss = loss + self.settings["auxiliary_weight"] * rest.square().sum(1).mean() / x.shape[1]
        return Terms(loss, reconstruction, sparsity)

    def gradients(self, p: Tensors, x: Tensor, into: Tensors, memory: Tensors, progress: float) -> Terms:
        """The gradient of `loss`: with the compiled sparse loops on a CPU, by differentiating the formula elsewhere."""
        if x.device.type != "cpu":
            terms = super().gradients(p, x, into, memory, progress)
            fired = (self.encode(p, x) > 0).any(0)
        else:
            from policylens.sae.sparse_gradients import topk_gradients

            terms, fired = topk_gradients(self, p, x, into, self.dead(memory))
        memory[SINCE].add_(len(x)).masked_fill_(fired, 0)
        return terms

    @torch.no_grad()
    def project(self, p: Tensors, gradients: Tensors) -> None:
        """Take the part along each decoder row out of that row's gradient."""
        along = (gradients["W_dec"] * p["W_dec"]).sum(1, keepdim=True)
        gradients["W_dec"].addcmul_(p["W_dec"], along, value=-1)

    @torch.no_grad()
    def constrain(self, p: Tensors) -> None:
        """Bring every decoder row back to norm 1."""
        p["W_dec"].div_(p["W_dec"].norm(dim=1, keepdim=True))


def keep_largest(a: Tensor, k: int) -> Tensor:
    """`a` (n, m) with everything but the k largest positive entries of each row set to 0."""
    values, indices = a.topk(k, dim=1, sorted=False)
    return torch.zeros_like(a).scatter(1, indices, torch.relu(values))
