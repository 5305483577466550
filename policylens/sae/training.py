"""Training SAEs on resident activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.batches import Batches, as_rows
from policylens.sae.member import Member
from policylens.sae.normalisation import Normalisation, fold, measure
from policylens.sae.settings import resolve

HISTORY = ("step", "loss", "reconstruction", "sparsity", "l0", "dead")
CHECK_EVERY = 100
DIVERGED = 100.0
INITIALISATION, DRAWING, MONITOR = range(3)

Progress = Callable[[Iterable[int]], Iterable[int]]
Row = dict[str, float]


def train(
    activations: np.ndarray | Tensor,
    settings: Mapping[str, Any],
    seed: int,
    *,
    device: str = "cpu",
    progress: Progress = iter,
    origin: Mapping[str, Any] | None = None,
) -> tuple[SAE, list[Row]]:
    """Train one SAE.

    activations: (n, d) floats, raw. settings: see `policylens.sae.settings`; defaults are filled in.
    seed: of initialisation and batches: with the same number of torch threads the result is the same to the bit.
    progress: passes the steps on, and may show them. origin: names for cfg.json (policy, checkpoint, site...).

    Returns the SAE on raw activations and its history: rows of step, loss, reconstruction (mean ||x - x_hat||^2),
    sparsity (mean sum_i f_i ||W_dec,i||), l0 and dead (share of latents never active), all measured on the same
    training rows and in the units of the normalised data. Raises UserError for rows that are not finite, and for a
    training that diverges.
    """
    settings = resolve(settings)
    rows = as_rows(activations)
    normalisation = measure(rows, centre=settings["centre"], rescale=settings["rescale"])
    rows = rows.to(device)
    member = Member(settings, rows.shape[1], stream(seed, INITIALISATION), device)
    batches = Batches(
        rows,
        normalisation,
        settings["batch_rows"],
        stream(seed, DRAWING),
        replacement=settings["sampling"] == "replacement",
    )
    monitor = monitor_rows(rows, normalisation, settings["monitor_rows"], stream(seed, MONITOR))
    history = _run(member, batches, monitor, progress)
    return finished(member, normalisation, seed, origin or {}), history


def stream(seed: int, purpose: int) -> int:
    """A 63-bit seed for one purpose, independent of the other purposes'."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0] >> 1)


def monitor_rows(rows: Tensor, normalisation: Normalisation, count: int, seed: int) -> Tensor:
    """A fixed normalised sample of the training rows, (count, d)."""
    picks = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    return normalisation.apply(rows[picks.to(rows.device)].float())


def _run(member: Member, batches: Iterable[Tensor], monitor: Tensor, progress: Progress) -> list[Row]:
    steps = member.settings["steps"]
    logged = set(np.linspace(0, steps, member.settings["log_points"] + 1).round().astype(int).tolist())
    history = [measured(member, monitor)]
    limit = DIVERGED * max(float(monitor.square().sum(1).mean()), history[0]["reconstruction"])
    for step, batch in zip(progress(range(steps)), batches, strict=False):
        member.update(batch)
        if step + 1 in logged:
            history.append(measured(member, monitor))
        if step + 1 in logged or step % CHECK_EVERY == 0:
            check(member, history[-1], limit)
    return history


@torch.no_grad()
def measured(member: Member, monitor: Tensor) -> Row:
    """One row of the history."""
    sae, p = member.architecture, member.parameters
    norms = p["W_dec"].norm(dim=1)
    fired = torch.zeros_like(norms, dtype=torch.bool)
    totals = torch.zeros(3, dtype=torch.float64)
    for tile in monitor.split(sae.tile_rows(monitor)):
        f = sae.encode(p, tile)
        error, strength = sae.decode(p, f) - tile, f * norms
        active = strength > member.settings["active_threshold"]
        fired |= active.any(0)
        totals += torch.stack([part.sum().float() for part in (error.square(), strength, active)]).cpu()
    reconstruction, sparsity, l0 = totals / len(monitor)
    loss = sae.objective(reconstruction, sparsity, monitor.shape[1], member.progress)
    dead = (~fired).float().mean()
    values = (float(value) for value in (loss, reconstruction, sparsity, l0, dead))
    return dict(zip(HISTORY, (member.step, *values), strict=True))


def check(member: Member, latest: Row, limit: float) -> None:
    """UserError naming the step if the loss is not finite, or the error far beyond that of predicting nothing."""
    bad = int(member.first_bad_step)
    if bad < 0 and not np.isfinite(latest["loss"]):
        bad = member.step
    if bad >= 0:
        raise UserError(f"training diverged: the loss is not finite at step {bad}; lower learning_rate")
    if latest["reconstruction"] > limit:
        raise UserError(
            f"training diverged: at step {latest['step']} the error is {latest['reconstruction']:.3g}, more than "
            f"{DIVERGED:g} times that of predicting nothing; lower learning_rate"
        )


def finished(member: Member, normalisation: Normalisation, seed: int, origin: Mapping[str, Any]) -> SAE:
    """The trained SAE with its normalisation folded in, on the CPU."""
    tensors = fold(member.parameters, normalisation)
    d_in, d_sae = tensors["W_enc"].shape
    cfg = SAEConfig(
        architecture=member.settings["architecture"],
        d_in=d_in,
        d_sae=d_sae,
        settings=dict(member.settings),
        normalisation={
            "centre": normalisation.centre,
            "scale": normalisation.scale,
            "mean": normalisation.mean.tolist(),
        },
        active_threshold=member.settings["active_threshold"] / normalisation.scale,
        seed=seed,
        **origin,
    )
    return SAE(cfg, tensors)
