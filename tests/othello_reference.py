"""6x6 Othello in plain Python, written as the rules are told: what the fast code is tested against."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

SIDE = 6
DIRECTIONS = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if (dr, dc) != (0, 0)]
PASS = 36

Cells = tuple[int, ...]  # +1 the mover's discs, -1 the opponent's, 0 empty

START: Cells = tuple({14: -1, 15: 1, 20: 1, 21: -1}.get(square, 0) for square in range(36))


def board(text: str) -> Cells:
    """A drawn board as cells: X the mover's, O the opponent's, . empty."""
    return tuple({"X": 1, "O": -1, ".": 0}[sign] for line in text.split() for sign in line)


def turned(cells: Cells, square: int) -> set[int]:
    """Squares of the discs that the mover turns by placing one on `square`."""
    if cells[square]:
        return set()
    found: set[int] = set()
    for dr, dc in DIRECTIONS:
        row, column, run = square // SIDE + dr, square % SIDE + dc, set()
        while 0 <= row < SIDE and 0 <= column < SIDE and cells[row * SIDE + column] == -1:
            run.add(row * SIDE + column)
            row, column = row + dr, column + dc
        if 0 <= row < SIDE and 0 <= column < SIDE and cells[row * SIDE + column] == 1:
            found |= run
    return found


def placements(cells: Cells) -> list[int]:
    return [square for square in range(36) if turned(cells, square)]


def swapped(cells: Cells) -> Cells:
    return tuple(-cell for cell in cells)


def actions(cells: Cells) -> list[int]:
    """Legal actions; empty when the game is over."""
    found = placements(cells)
    return found if found or not placements(swapped(cells)) else [PASS]


def after(cells: Cells, action: int) -> Cells:
    """The position after an action, from the next mover's view."""
    if action == PASS:
        return swapped(cells)
    flips = turned(cells, action)
    return swapped(tuple(1 if square == action or square in flips else cell for square, cell in enumerate(cells)))


def perfect(cells: Cells) -> int:
    """Disc difference for the mover under perfect play, by trying everything."""
    found = actions(cells)
    return max(-perfect(after(cells, action)) for action in found) if found else sum(cells)


def random_position(seed: int, empties: int | None = None) -> Cells:
    """An unfinished position from random play: of random length, or with at most `empties` empty squares."""
    generator = random.Random(seed)
    while True:
        length = generator.randrange(33)
        cells = START
        while actions(cells) and (length > 0 if empties is None else cells.count(0) > empties):
            cells, length = after(cells, generator.choice(actions(cells))), length - 1
        if actions(cells):
            return cells


def random_game(seed: int) -> Iterator[tuple[Cells, int]]:
    """The positions and actions of a random game."""
    generator = random.Random(seed)
    cells = START
    while actions(cells):
        action = generator.choice(actions(cells))
        yield cells, action
        cells = after(cells, action)


def boards(positions: list[Cells]) -> tuple[np.ndarray, np.ndarray]:
    """Positions as bitboards (own, opp)."""
    own = [sum(1 << square for square, cell in enumerate(cells) if cell == 1) for cells in positions]
    opp = [sum(1 << square for square, cell in enumerate(cells) if cell == -1) for cells in positions]
    return np.array(own, np.uint64), np.array(opp, np.uint64)


def squares_of(bitboard: int) -> set[int]:
    return {square for square in range(64) if int(bitboard) >> square & 1}
