"""Edits that steer: functions from an activation to another, as `Policy.run` and `Edited` take them."""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.steering.moves import Move
from policylens.steering.targets import Target


class Steering:
    """Moves a target's coordinates in every activation it is given, at all positions; all else stays.

    x' = x + sum_i (wanted_i - c_i) W_i: what an SAE does not reconstruct stays in the activation. For an SAE with
    `row_norm` the sum is multiplied by the spread of each row of x.

    along: (d,) unit vector, for controls: the activation is moved as far as the target would be, this way. One
    coordinate keeps its sign, so that a push is a push and a pull a pull; of several the length of their sum counts.
    seed: of rows that `resample` draws.
    """

    def __init__(self, target: Target, move: Move, seed: int = 0, along: Tensor | None = None) -> None:
        self.target, self.move, self.along = target, move, along
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(n, *inner, d) -> the same shape. Raises UserError for an activation of another site's width."""
        width = self.target.directions.shape[-1]
        if x.shape[-1] != width:
            own, given = f"the site {self.target.site!r}, {width} units", x.shape[-1]
            raise UserError(f"{self.target.name} is of {own}; it was put at one of {given}")
        return x + self.change(x).to(x.dtype).reshape(x.shape)

    def change(self, x: Tensor) -> Tensor:
        """What is added to x, (n, positions, d)."""
        moved = self._moved(x)
        if self.target.spread is None:
            return moved
        return moved * self.target.spread(x).to(moved).reshape(len(x), -1, 1)

    def _moved(self, x: Tensor) -> Tensor:
        coordinates = self.target.read(x)
        by = self.move.wanted(coordinates, self.target, self.generator) - coordinates
        directions = self.target.directions.to(by)
        if self.along is None:
            return by @ directions
        along = self.along.to(by)
        if len(directions) == 1:
            return by * directions.norm() * along
        return (by @ directions).norm(dim=-1, keepdim=True) * along
