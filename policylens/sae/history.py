"""How a training goes, measured now and then on fixed training rows, and whether it goes at all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policylens.sae.architecture import SINCE
from policylens.sae.member import Member
from policylens.sae.stream import Batch

HISTORY = ("step", "loss", "reconstruction", "sparsity", "l0", "dead", "dead_for_long")
DIVERGED = 100.0
NEVER = 1e-10

Row = dict[str, float]


@torch.no_grad()
def measured(member: Member, monitor: Batch) -> Row:
    """One row of the history, in the units of the normalised data.

    step; loss: the main loss; reconstruction: mean ||target - x_hat||^2; sparsity: mean sum_i |f_i| ||W_dec,i||; l0;
    dead: share of latents not active in these rows; dead_for_long: share not active in the last `dead_after_rows`
    rows of the training.
    """
    sae, p = member.architecture, member.finished
    norms = p["W_dec"].norm(dim=1)
    fired = torch.zeros_like(norms, dtype=torch.bool)
    totals = torch.zeros(4, dtype=torch.float64)
    size = sae.tile_rows(monitor.x)
    for x, target in zip(monitor.x.split(size), monitor.target.split(size), strict=True):
        f = sae.encode(p, x)
        error, strength = sae.decode(p, f) - target, f.abs() * norms
        active = strength > member.settings["active_threshold"]
        fired |= active.any(0)
        parts = (error.square(), strength, active, sae.penalty(p, x, f, norms))
        totals += torch.stack([part.sum().float() for part in parts]).cpu()
    reconstruction, sparsity, l0, penalty = totals / len(monitor.x)
    loss = sae.objective(reconstruction, penalty, monitor.target.shape[1], member.progress)
    dead, long = (~fired).float().mean(), len(sae.dead(member.memory)) / len(member.memory[SINCE])
    values = (float(value) for value in (loss, reconstruction, sparsity, l0, dead, long))
    return dict(zip(HISTORY, (member.step, *values), strict=True))


@torch.no_grad()
def log_frequencies(member: Member, monitor: Batch) -> Tensor:
    """(m,) float32: log10 of the share of these rows in which each latent is not 0, plus 1e-10 as SAELens has it."""
    sae, p = member.architecture, member.finished
    parts = [(sae.encode(p, x) != 0).sum(0) for x in monitor.x.split(sae.tile_rows(monitor.x))]
    return torch.log10(torch.stack(parts).sum(0).float() / len(monitor.x) + NEVER).cpu()


def trouble(member: Member, history: list[Row], monitor: Batch) -> str | None:
    """What is wrong if the training has diverged: the loss is not finite, or the error far beyond that of nothing."""
    latest, bad = history[-1], int(member.first_bad_step)
    if bad < 0 and not np.isfinite(latest["loss"]):
        bad = member.step
    if bad >= 0:
        return f"training diverged: the loss is not finite at step {bad}; lower learning_rate"
    limit = DIVERGED * max(float(monitor.target.square().sum(1).mean()), history[0]["reconstruction"])
    if latest["reconstruction"] > limit:
        return (
            f"training diverged: at step {latest['step']} the error is {latest['reconstruction']:.3g}, more than "
            f"{DIVERGED:g} times that of predicting nothing; lower learning_rate"
        )
    return None
