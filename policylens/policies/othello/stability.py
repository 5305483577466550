"""Discs that can never be turned again, by a sufficient condition.

To turn a disc along a line, the opponent needs a disc of its own on both sides of it, one of them newly placed.
So a disc is safe along a line if the line is full (nothing can be placed there), if it ends the line (nothing
lies beyond it), or if its neighbour on either side is a disc of its own colour that can never be turned. A disc
that is safe along all four lines can never be turned; the set is grown from the empty set until nothing is added.
Sound, not complete: some discs outside the set can never be turned either.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.rules import (
    DOWN_MASKS,
    FULL,
    LINE_STEPS,
    ONE,
    SIDE,
    SQUARES,
    UP_MASKS,
    ZERO,
)

_NAMES_OF_LINES = (  # in the order of LINE_STEPS: what a line's squares have in common
    lambda row, column: row,
    lambda row, column: column,
    lambda row, column: row - column,
    lambda row, column: row + column,
)


def _lines() -> NDArray[np.uint64]:
    """Every line of the board as a bitboard, (4 directions, 11); 0 where a direction has fewer."""
    lines = np.zeros((4, 2 * SIDE - 1), np.uint64)
    for direction, name in enumerate(_NAMES_OF_LINES):
        for square in range(SQUARES):
            lines[direction, name(square // SIDE, square % SIDE) % (2 * SIDE - 1)] |= ONE << np.uint64(square)
    return lines


def _ends() -> NDArray[np.uint64]:
    """Per direction the squares that end their line, (4,)."""
    masks = zip(LINE_STEPS, UP_MASKS, DOWN_MASKS, strict=True)
    inner = [(FULL >> step) & down & (FULL << step) & up for step, up, down in masks]
    return np.array([FULL & ~squares for squares in inner], np.uint64)


_LINES, _ENDS = _lines(), _ends()


@njit("uint64(uint64, uint64)", cache=True)
def stable(own, opp):
    """Bitboard of the discs in `own` that can never be turned, whoever is to move."""
    safe = _ENDS.copy()
    occupied = own | opp
    for direction in range(4):
        for line in _LINES[direction]:
            if line & occupied == line:
                safe[direction] |= line
    found, before = ZERO, FULL
    while found != before:
        before, grown = found, own
        for direction in range(4):
            step = LINE_STEPS[direction]
            beside = ((found << step) & UP_MASKS[direction]) | ((found >> step) & DOWN_MASKS[direction])
            grown &= safe[direction] | beside
        found = grown
    return found
