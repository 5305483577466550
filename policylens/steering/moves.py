"""What a target's coordinates are changed to, while the policy acts.

zero       0
mean       their mean over the reference rows
resample   those of a reference row, drawn anew for every decision
set        origin + strength units
add        as they are, and strength units more
clamp      as they are, kept between origin + low units and origin + high units

A latent's origin is 0 and its unit the mean where it is active; a direction's are mean and standard deviation of the
activations' projection on it (`policylens.steering.targets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policylens.interventions.kinds import wanted
from policylens.steering.kinds import CLAMP, check_move
from policylens.steering.targets import Target


@dataclass(frozen=True)
class Move:
    """kind: one of the above. strength: of set and add; low, high: of clamp, None where there is no such bound."""

    kind: str
    strength: float | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        check_move(self.kind, self.strength, self.low, self.high)

    @property
    def name(self) -> str:
        """As results are called: "zero", "add_-2", "set_0p5", "clamp_0_1", "clamp__1" (no lower bound)."""
        bounds = (self.low, self.high) if self.kind == CLAMP else (self.strength,)
        if self.kind != CLAMP and self.strength is None:
            return self.kind
        return "_".join([self.kind, *("" if bound is None else f"{bound:g}" for bound in bounds)]).replace(".", "p")

    def wanted(self, coordinates: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        """What coordinates (n, positions, k) are to become, in the same shape."""
        of = target.scale
        if self.kind == CLAMP:
            low, high = (None if end is None else of.origin + end * of.unit for end in (self.low, self.high))
            return torch.clamp(coordinates, low, high)
        donated = coordinates
        if self.kind == "resample":
            rows = torch.randint(len(of.pool), (len(coordinates),), generator=generator)
            donated = of.pool[rows.to(of.pool.device)]
        own = {"mean": of.mean, "unit": of.unit, "origin": of.origin, "donated": donated}
        return wanted(self.kind, coordinates, strength=self.strength, **own)


def move_of(single: Mapping[str, Any]) -> Move:
    """From an entry of `policylens.steering.kinds.spelt_out`."""
    return Move(**single)
