"""Dead latents start anew from rows that are badly reconstructed.

Every `resample_every` steps, until the last fifth of the training (so that the new ones have time to learn):

    rows are drawn with probability proportional to the square of their loss
    W_dec of a dead latent = the drawn row's direction (norm 1)
    W_enc of it            = the row's direction x 0.2 x the mean norm of the living latents' encoders
    its pre-activation is 0 at the batch's mean, and Adam's moments of all its entries are 0

Source: Bricken et al., "Towards Monosemanticity" (2023), appendix "Neuron resampling",
https://transformer-circuits.pub/2023/monosemantic-features#appendix-autoencoder-resampling. There the encoder takes
x - b_dec, and b_dec is close to the data's centre; here the batch's mean stands for it. No row is drawn twice: two
latents that start equal and get equal gradients would stay equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from policylens.sae.architecture import RESAMPLED, SINCE
from policylens.sae.optimiser import MOMENTS

if TYPE_CHECKING:
    from policylens.sae.member import Member

LAST = 0.8
ENCODER_SHARE = 0.2
NOT_OF_LATENTS = ("b_dec",)


def due(member: Member) -> bool:
    """Whether dead latents start anew after the step just done."""
    every = member.settings["resample_every"]
    return every is not None and member.step % every == 0 and member.progress <= LAST


@torch.no_grad()
def resample(member: Member, x: Tensor, target: Tensor) -> int:
    """Start a member's dead latents anew from a normalised batch, x (n, d_in) and target (n, d_out); how many.

    What is drawn follows from the member's seed and step, so that a training that was interrupted goes on alike.
    """
    dead = member.architecture.dead(member.memory)
    rows = drawn(row_losses(member, x, target).square(), len(dead), member.seed, member.step)
    if not len(rows):
        return 0
    dead, centre = dead[: len(rows)], x.mean(0)
    encoders = unit(x[rows] - centre) * ENCODER_SHARE * living_norm(member)
    member.architecture.revive(member.parameters, dead, encoders, unit(target[rows] - target.mean(0)), centre)
    forget(member, dead)
    member.memory[SINCE][dead] = 0
    member.memory[RESAMPLED].add_(len(dead))
    return len(dead)


def row_losses(member: Member, x: Tensor, target: Tensor) -> Tensor:
    """(n,) the main loss of each row."""
    sae, p = member.architecture, member.finished
    norms, size = p["W_dec"].norm(dim=1), sae.chunk_rows(x)

    def of(x: Tensor, target: Tensor) -> Tensor:
        f = sae.encode(p, x)
        squares = (target - sae.decode(p, f)).square().sum(1)
        return sae.objective(squares, sae.penalty(p, x, f, norms), target.shape[1], member.progress)

    return torch.cat([of(*part) for part in zip(x.split(size), target.split(size), strict=True)])


def drawn(weights: Tensor, count: int, *seed: int) -> Tensor:
    """Up to `count` different rows, each with probability proportional to its weight."""
    exact = weights.double().cpu()
    count = min(count, int((exact > 0).sum()))
    if not count:
        return torch.empty(0, dtype=torch.int64, device=weights.device)
    number = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1)
    generator = torch.Generator().manual_seed(int(number))
    return torch.multinomial(exact / exact.sum(), count, generator=generator).to(weights.device)


def living_norm(member: Member) -> Tensor:
    """Mean norm of the encoder columns of the latents that are not dead (of all, if none lives)."""
    norms = member.finished["W_enc"].norm(dim=0)
    living = member.memory[SINCE] <= member.settings["dead_after_rows"]
    return norms[living].mean() if living.any() else norms.mean()


def forget(member: Member, latents: Tensor) -> None:
    """Set Adam's moments of these latents' entries to 0."""
    m = member.settings["latents"]
    for name, moments in zip(member.parameters, member.moments(), strict=True):
        if name not in NOT_OF_LATENTS:
            for kind in MOMENTS:
                moments[kind].view(m, -1)[latents] = 0.0


def unit(rows: Tensor) -> Tensor:
    """Rows (k, d) scaled to norm 1; a row of zeros stays."""
    return torch.nn.functional.normalize(rows, dim=1)
