"""What is steered: latents of an SAE, a direction, or units, as coordinates of the activation to read and change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.sae.latents import Latents, encoded

BATCH_ROWS = 2048


class Reading(Protocol):
    """How coordinates are read off an activation."""

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *inner, d) -> (n, positions, k)."""


@dataclass(frozen=True)
class Scale:
    """What coordinates usually are, from reference rows: tensors (k,) unless stated.

    origin, unit: what strengths are counted from and in. mean, low, high: over all rows and positions; the last two are
    the least and largest value. pool: (rows, positions, k), the coordinates themselves.
    """

    origin: Tensor
    unit: Tensor
    mean: Tensor
    low: Tensor
    high: Tensor
    pool: Tensor

    @classmethod
    def of(cls, pool: Tensor, origin: Tensor, unit: Tensor) -> Scale:
        """From coordinates of reference rows."""
        flat = pool.reshape(-1, pool.shape[-1])
        return cls(origin, unit, flat.double().mean(0).to(pool.dtype), flat.min(0).values, flat.max(0).values, pool)


@dataclass(frozen=True)
class Target:
    """k coordinates of a site's activation.

    name: as results are called. site: where. latents: their numbers; empty for anything else. read: coordinates of an
    activation. directions: (k, d) what one more of each coordinate adds to the activation. units: their numbers, where
    units of the activation itself are steered. spread: (n, *inner, d) -> (n, *inner, 1), what directions are multiplied
    by in each row; None for 1.
    """

    name: str
    site: str
    latents: tuple[int, ...]
    read: Reading
    directions: Tensor
    scale: Scale
    units: tuple[int, ...] = ()
    spread: Reading | None = None


def latents_target(name: str, site: str, sae: SAE, latents: Sequence[int], rows: Latents) -> Target:
    """Some latents, changed together. rows: all latents over the reference rows.

    Raises UserError for a latent that the SAE lacks, or that is active in none of the rows: it has no scale.
    """
    numbers = np.asarray(latents)
    for number in numbers:
        if not 0 <= number < sae.cfg.d_sae:
            raise UserError(f"{name}: the SAE at {site!r} has latents 0 to {sae.cfg.d_sae - 1}, not {number}")
        if rows.counts[number] == 0:
            raise UserError(f"{name}: latent {number} of the SAE at {site!r} is active in none of the reference rows")
    index = torch.from_numpy(numbers).to(sae.device)

    def read(x: Tensor) -> Tensor:
        return encoded(sae, x)[:, :, index]

    pool = torch.from_numpy(rows.dense(numbers)).to(sae.device)
    unit = torch.from_numpy(rows.active_means[numbers]).to(pool)
    scale = Scale.of(pool, torch.zeros_like(unit), unit)
    spread = None if sae.row_norm is None else sae.spread
    directions, own = sae.W_dec[index].detach(), tuple(int(number) for number in numbers)
    return Target(name, site, own, read, directions, scale, spread=spread)


def direction_target(
    name: str, site: str, direction: np.ndarray, activations: np.ndarray, device: str = "cpu"
) -> Target:
    """A direction (d,), of any length but 0: the coordinate is the projection on it. activations: (rows, *inner, d).

    Raises UserError for a direction of another width, and one along which the activations do not vary.
    """
    vector = np.asarray(direction, np.float64)
    if vector.shape != activations.shape[-1:]:
        units = activations.shape[-1]
        raise UserError(f"it has the shape {vector.shape}, the site {site!r} {units} units; give one as wide")
    norm = np.linalg.norm(vector)
    if not np.isfinite(norm):
        raise UserError("the direction holds NaN or infinity; make it again")
    if norm == 0:
        raise UserError("the direction is 0 everywhere: nothing can be moved along it")
    along = torch.from_numpy((vector / norm).astype(np.float32)).to(device)

    def read(x: Tensor) -> Tensor:
        return (x @ along.to(x)).reshape(len(x), -1, 1)

    pool = read(torch.from_numpy(activations).to(device))
    spread = pool.double().std().to(pool.dtype)
    if not spread > 0:
        raise UserError(f"the activations at {site!r} do not vary along the direction")
    scale = Scale.of(pool, pool.double().mean().to(pool.dtype)[None], spread[None])
    return Target(name, site, (), read, along[None], scale)


def units_target(name: str, site: str, units: Sequence[int], activations: np.ndarray, device: str = "cpu") -> Target:
    """Some units of the activation, changed together, in the activation's own numbers: origin 0, unit 1.

    activations: (rows, *inner, d). Raises UserError for a unit that the site lacks.
    """
    numbers, width = np.asarray(units), activations.shape[-1]
    for number in numbers:
        if not 0 <= number < width:
            raise UserError(f"{name}: the site {site!r} has units 0 to {width - 1}, not {number}")
    index = torch.from_numpy(numbers).to(device)

    def read(x: Tensor) -> Tensor:
        return x[..., index.to(x.device)].reshape(len(x), -1, len(index))

    pool = (
        torch.from_numpy(np.ascontiguousarray(activations[..., numbers]))
        .to(device)
        .reshape(len(activations), -1, len(index))
    )
    own = torch.zeros(len(index), width, device=device)
    own[torch.arange(len(index)), index] = 1
    scale = Scale.of(pool, torch.zeros(len(index)).to(pool), torch.ones(len(index)).to(pool))
    return Target(name, site, (), read, own, scale, tuple(int(number) for number in numbers))


def latents_of(sae: SAE, activations: np.ndarray) -> Latents:
    """All latents over some rows (rows, *inner, d)."""
    return Latents.of(encoded(sae, piece) for piece in torch.from_numpy(activations).split(BATCH_ROWS))


def contributing(sae: SAE, rows: Latents, count: int) -> list[int]:
    """Numbers of the `count` latents that contribute most to reconstructions, by mean |f| ||W_dec||; 0: all alive."""
    worth = rows.contributions(sae.W_dec.norm(dim=1).detach().cpu().numpy())
    order = np.argsort(-worth, kind="stable")
    alive = order[worth[order] > 0]
    return [int(number) for number in (alive[:count] if count else alive)]
