"""The replay buffer: recent positions of self-play, drawn with a random symmetry each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.rules import ACTIONS, ONE, SQUARES
from policylens.policies.othello.symmetry import SYMMETRIES

FIELDS = {
    "own": (np.uint64, ()),
    "opp": (np.uint64, ()),
    "visits": (np.uint16, (ACTIONS,)),
    "value": (np.float32, ()),
    "result": (np.int8, ()),
}


class Replay:
    """The latest `capacity` positions, with what the search and the game's end said of them.

    columns: own, opp uint64 (n,); visits uint16 (n, 37); value float32 (n,), the search's; result int8 (n,), the
    game's outcome as -1, 0, +1 for the side to move.
    """

    def __init__(self, capacity: int, columns: Mapping[str, NDArray] | None = None) -> None:
        self.capacity = capacity
        empty = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in FIELDS.items()}
        self.columns: dict[str, NDArray] = dict(columns) if columns is not None else empty

    def __len__(self) -> int:
        return len(self.columns["own"])

    def add(self, games: Iterable[tuple[NDArray, NDArray]]) -> int:
        """Append finished games (steps, episode), oldest positions out. Returns how many positions came in."""
        games = list(games)
        steps = np.concatenate([steps for steps, _ in games])
        outcome = np.repeat([np.sign(game["outcome"]) for _, game in games], [len(steps) for steps, _ in games])
        fresh = {name: steps[name] for name in ("own", "opp", "visits", "value")}
        fresh["result"] = np.where(steps["ply"] % 2 == 0, outcome, -outcome).astype(np.int8)
        for name, old in self.columns.items():
            self.columns[name] = np.concatenate([old, fresh[name]])[-self.capacity :]
        return len(steps)

    def draw(
        self, generator: np.random.Generator, size: int, search_share: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """A batch with replacement: planes (size, 72), policy target (size, 37), value target (size,).

        search_share: weight of the search's value against the game's result in the value target.
        """
        rows = generator.integers(len(self), size=size)
        symmetries = generator.integers(8, size=size)
        planes = np.empty((size, 2 * SQUARES), np.float32)
        policy = np.empty((size, ACTIONS), np.float32)
        columns = self.columns
        _fill(rows, symmetries, columns["own"], columns["opp"], columns["visits"], planes, policy)
        value = (1 - search_share) * columns["result"][rows] + search_share * columns["value"][rows]
        return planes, policy, value.astype(np.float32)


@njit(cache=True)
def _fill(rows, symmetries, own, opp, visits, planes, policy):
    for index in range(rows.shape[0]):
        row, squares = rows[index], SYMMETRIES[symmetries[index]]
        total = np.float32(0.0)
        for action in range(ACTIONS):
            policy[index, action] = visits[row, squares[action]]
            total += policy[index, action]
        for action in range(ACTIONS):
            policy[index, action] /= total
        for square in range(SQUARES):
            bit = np.uint64(squares[square])
            planes[index, square] = np.float32((own[row] >> bit) & ONE)
            planes[index, SQUARES + square] = np.float32((opp[row] >> bit) & ONE)
