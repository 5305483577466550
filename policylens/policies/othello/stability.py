"""Discs that can never be turned again."""

from __future__ import annotations

import numpy as np
from numba import njit

from policylens.policies.othello.rules import FULL, SIDE, SQUARES, U64, ZERO, neighbours


def _lines() -> list[list[tuple[int, ...]]]:
    """All rows, columns, diagonals and antidiagonals of the board, as squares."""
    squares = [(square // SIDE, square % SIDE) for square in range(SQUARES)]
    keys = [lambda r, c: c * 0 + r, lambda r, c: c, lambda r, c: r - c, lambda r, c: r + c]
    return [
        [tuple(r * SIDE + c for r, c in squares if key(r, c) == name) for name in sorted({key(*s) for s in squares})]
        for key in keys
    ]
