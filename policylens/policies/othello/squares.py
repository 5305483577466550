"""The squares of a 6x6 board, and what they are called."""

from __future__ import annotations

SIDE = 6
SQUARES = SIDE * SIDE


def square_name(square: int) -> str:
    """A square's name: column letter, then row number; 0 is a1, 35 is f6."""
    return f"{'abcdef'[square % SIDE]}{square // SIDE + 1}"
