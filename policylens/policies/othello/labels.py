"""Ground truth about positions: what is on the board, what can be done, what will come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.othello.family import LABELS
from policylens.policies.othello.rules import (
    CORNERS,
    FULL,
    ONE,
    SQUARES,
    U64,
    ZERO,
    disc_difference,
    flipped,
    is_over,
    legal_moves,
    pack,
    play,
    popcount,
)
from policylens.policies.othello.solver import solve
from policylens.policies.othello.stability import stable

SOLVED_EMPTIES = 10

Rows = Mapping[str, NDArray]


@njit("void(uint64[:], uint64[:], uint64[:, :])", cache=True)
def _boards(own, opp, boards):
    """Per row: legal moves, the opponent's legal moves, stable discs, the opponent's stable discs."""
    for row in range(own.shape[0]):
        boards[0, row] = legal_moves(own[row], opp[row])
        boards[1, row] = legal_moves(opp[row], own[row])
        boards[2, row] = stable(own[row], opp[row])
        boards[3, row] = stable(opp[row], own[row])


@njit("void(uint64[:], uint64[:], int8[:, :])", cache=True)
def _flips(own, opp, counts):
    for row in range(own.shape[0]):
        for square in range(SQUARES):
            if not ((own[row] | opp[row]) >> U64(square)) & ONE:
                counts[row, square] = popcount(flipped(own[row], opp[row], square))


class _Positions:
    """The rows' positions, and what several labels need of them."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.own, self.opp = pack(rows["cells"])
        boards = np.zeros((4, len(self.own)), np.uint64)
        _boards(self.own, self.opp, boards)
        self.legal, self.their_legal, self.stable, self.their_stable = boards
        self.empty = ~(self.own | self.opp) & FULL


def _squares(boards: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Bitboards (n,) -> bool (n, 36)."""
    return (boards[:, None] >> np.arange(SQUARES, dtype=np.uint64)) & ONE != ZERO


def _count(boards: NDArray[np.uint64]) -> NDArray[np.int8]:
    return _squares(boards).sum(axis=1, dtype=np.int8)


def _flip_counts(positions: _Positions) -> NDArray[np.int8]:
    counts = np.zeros((len(positions.own), SQUARES), np.int8)
    _flips(positions.own, positions.opp, counts)
    return counts


def _outcome(positions: _Positions) -> NDArray[np.int8]:
    """The final disc difference, from playing each episode's last recorded action."""
    rows = positions.rows
    missing = [name for name in ("episode", "step", "action") if name not in rows]
    if missing:
        raise UserError(f"the label outcome needs the source's arrays episode, step and action; it lacks {missing}")
    episode, step = np.asarray(rows["episode"]), np.asarray(rows["step"])
    last = np.append(np.flatnonzero(np.diff(episode)), len(episode) - 1)
    final = np.zeros(len(last), np.int8)
    for index, row in enumerate(last):
        own, opp = play(positions.own[row], positions.opp[row], int(rows["action"][row]))
        if not is_over(own, opp):
            raise UserError(f"the label outcome needs whole games; episode {episode[row]} goes on after its last row")
        final[index] = -disc_difference(own, opp)  # seen by the player of the last recorded action
    owner = np.repeat(np.arange(len(last)), np.diff(last, prepend=-1))
    same_player = (step[last][owner] - step) % 2 == 0
    return np.where(same_player, final[owner], -final[owner]).astype(np.int8)


def _solved(positions: _Positions) -> NDArray[np.bool_]:
    return _count(positions.empty) <= SOLVED_EMPTIES


def _solver_value(positions: _Positions) -> NDArray[np.float32]:
    known = _solved(positions)
    values = np.full(len(known), np.nan, np.float32)
    values[known] = solve(positions.own[known], positions.opp[known])
    return values


_COMPUTED: dict[str, Callable[[_Positions], NDArray]] = {
    "cells_mine": lambda p: _squares(p.own),
    "cells_theirs": lambda p: _squares(p.opp),
    "cells_empty": lambda p: _squares(p.empty),
    "legal_moves": lambda p: _squares(p.legal),
    "mobility_mine": lambda p: _count(p.legal),
    "mobility_theirs": lambda p: _count(p.their_legal),
    "corners_mine": lambda p: _count(p.own & CORNERS),
    "corners_theirs": lambda p: _count(p.opp & CORNERS),
    "corners_takeable": lambda p: _count(p.legal & CORNERS),
    "flips": _flip_counts,
    "stable_mine": lambda p: _squares(p.stable),
    "stable_theirs": lambda p: _squares(p.their_stable),
    "parity": lambda p: _count(p.empty) % 2 == 1,
    "empties": lambda p: _count(p.empty),
    "outcome": _outcome,
    "solver_value": _solver_value,
    "solver_known": _solved,
}
assert _COMPUTED.keys() == LABELS.keys()


def label(rows: Rows, names: Sequence[str]) -> dict[str, NDArray]:
    """Labels of a source's rows, by name; see LABELS in family.py for what each is.

    rows: `cells` int8 (n, 36); for `outcome` also episode, step and action, rows of an episode together and in
    order. Per-square labels are (n, 36), all others (n,); bool, int8, or float32 for solver_value, which is NaN
    where more than 10 squares are empty (solver_known is False there).
    """
    if unknown := sorted(set(names) - _COMPUTED.keys()):
        raise UserError(f"unknown Othello labels {', '.join(unknown)}; there are {', '.join(_COMPUTED)}")
    positions = _Positions(rows)
    return {name: _COMPUTED[name](positions) for name in names}
