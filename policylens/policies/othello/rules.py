"""The rules of 6x6 Othello on bitboards.

A position is a pair of 64-bit boards `(own, opp)` from the view of the side to move; bit `s` is square `s`, and
square = row * 6 + column. Action 36 is a pass, which is legal exactly when no disc can be placed and the game
is not over. Everything here is compiled and iterative; integers stay `uint64`, because numba turns mixed signed
and unsigned arithmetic into floating point.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.squares import SIDE, SQUARES

PASS = SQUARES
ACTIONS = SQUARES + 1
LONGEST_GAME = 64  # 32 discs to place, and never two passes in a row

U64 = np.uint64
ZERO, ONE = U64(0), U64(1)
FULL = U64((1 << SQUARES) - 1)
CORNERS = U64((1 << 0) | (1 << 5) | (1 << 30) | (1 << 35))
_NOT_FIRST_COLUMN = U64(sum(1 << square for square in range(SQUARES) if square % SIDE != 0))
_NOT_LAST_COLUMN = U64(sum(1 << square for square in range(SQUARES) if square % SIDE != SIDE - 1))

START_OWN = U64((1 << 15) | (1 << 20))
START_OPP = U64((1 << 14) | (1 << 21))

# Four lines (row, column, two diagonals), each walked up (<<) and down (>>). The masks drop what wrapped around.
LINE_STEPS = np.array([1, 6, 7, 5], dtype=np.uint64)
UP_MASKS = np.array([_NOT_FIRST_COLUMN, FULL, _NOT_FIRST_COLUMN, _NOT_LAST_COLUMN], dtype=np.uint64)
DOWN_MASKS = np.array([_NOT_LAST_COLUMN, FULL, _NOT_LAST_COLUMN, _NOT_FIRST_COLUMN], dtype=np.uint64)


@njit("int64(uint64)", cache=True)
def popcount(board):
    """Number of discs on a bitboard."""
    board = board - ((board >> ONE) & U64(0x5555555555555555))
    board = (board & U64(0x3333333333333333)) + ((board >> U64(2)) & U64(0x3333333333333333))
    board = (board + (board >> U64(4))) & U64(0x0F0F0F0F0F0F0F0F)
    return np.int64((board * U64(0x0101010101010101)) >> U64(56))


@njit("int64(uint64)", cache=True)
def lowest(board):
    """Index of the lowest set bit of a non-empty bitboard."""
    return popcount((board & (~board + ONE)) - ONE)


@njit("uint64(uint64, uint64)", cache=True)
def legal_moves(own, opp):
    """Bitboard of the squares where the side to move may place a disc."""
    empty = ~(own | opp) & FULL
    legal = ZERO
    for line in range(4):
        step, up, down = LINE_STEPS[line], UP_MASKS[line], DOWN_MASKS[line]
        above, below = (own << step) & up & opp, (own >> step) & down & opp
        for _ in range(3):  # at most four discs can be flipped in one direction on a side of six
            above |= (above << step) & up & opp
            below |= (below >> step) & down & opp
        legal |= ((above << step) & up | (below >> step) & down) & empty
    return legal


@njit("uint64(uint64, uint64, int64)", cache=True)
def flipped(own, opp, square):
    """Bitboard of the opponent's discs that a disc placed on `square` turns."""
    placed = ONE << U64(square)
    result = ZERO
    for line in range(4):
        step, up, down = LINE_STEPS[line], UP_MASKS[line], DOWN_MASKS[line]
        run, at = ZERO, (placed << step) & up
        while at & opp:
            run |= at
            at = (at << step) & up
        if at & own:
            result |= run
        run, at = ZERO, (placed >> step) & down
        while at & opp:
            run |= at
            at = (at >> step) & down
        if at & own:
            result |= run
    return result


@njit("UniTuple(uint64, 2)(uint64, uint64, int64)", cache=True)
def play(own, opp, action):
    """The position after a legal action, from the view of the side that is then to move."""
    if action == PASS:
        return opp, own
    turned = flipped(own, opp, action)
    return opp & ~turned, own | turned | (ONE << U64(action))


@njit("boolean(uint64, uint64)", cache=True)
def is_over(own, opp):
    """Whether neither side can place a disc."""
    return legal_moves(own, opp) == ZERO and legal_moves(opp, own) == ZERO


@njit("int64(uint64, uint64)", cache=True)
def disc_difference(own, opp):
    """Discs of the side to move minus the opponent's."""
    return popcount(own) - popcount(opp)


@njit("uint64(uint64, uint64)", cache=True)
def legal_actions(own, opp):
    """Bits 0-35: squares to place on; bit 36: the pass. Zero when the game is over."""
    moves = legal_moves(own, opp)
    if moves == ZERO and legal_moves(opp, own) != ZERO:
        return ONE << U64(PASS)
    return moves


@njit("int64(int64)", cache=True)
def perft(depth):
    """Number of sequences of `depth` plies from the start (a pass is a ply; a finished game ends a sequence).

    The known values for depths 1 to 7 on 6x6 are 4, 12, 56, 244, 1364, 7604, 47740.
    """
    own, opp = np.zeros(depth + 1, np.uint64), np.zeros(depth + 1, np.uint64)
    left = np.zeros(depth + 1, np.uint64)  # moves still to try per ply; bit 36 is the pass
    own[0], opp[0] = START_OWN, START_OPP
    left[0] = legal_actions(START_OWN, START_OPP)
    ply, count = 0, 0
    while ply >= 0:
        if ply == depth or left[ply] == ZERO:
            count += 1 if ply == depth or is_over(own[ply], opp[ply]) else 0
            ply -= 1
            while ply >= 0 and left[ply] == ZERO:
                ply -= 1
            if ply < 0:
                break
        action = lowest(left[ply])
        left[ply] &= left[ply] - ONE
        own[ply + 1], opp[ply + 1] = play(own[ply], opp[ply], action)
        ply += 1
        left[ply] = legal_actions(own[ply], opp[ply])
    return count


@njit("void(uint64[:], uint64[:], int8[:, :], boolean[:, :])", cache=True)
def _unpack(own, opp, cells, legal):
    for row in range(own.shape[0]):
        actions = legal_actions(own[row], opp[row])
        for square in range(SQUARES):
            bit = U64(square)
            cells[row, square] = np.int64((own[row] >> bit) & ONE) - np.int64((opp[row] >> bit) & ONE)
        for action in range(ACTIONS):
            legal[row, action] = (actions >> U64(action)) & ONE != ZERO


def unpack(own: NDArray[np.uint64], opp: NDArray[np.uint64]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Bitboards (n,), (n,) -> cells int8 (n, 36) in {+1 own, -1 opponent's, 0 empty} and legal bool (n, 37)."""
    cells = np.empty((len(own), SQUARES), np.int8)
    legal = np.empty((len(own), ACTIONS), np.bool_)
    _unpack(np.ascontiguousarray(own), np.ascontiguousarray(opp), cells, legal)
    return cells, legal


def pack(cells: NDArray[np.int8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Cells (n, 36) -> bitboards (own, opp), uint64 (n,) each. The inverse of :func:`unpack`."""
    weights = ONE << np.arange(SQUARES, dtype=np.uint64)
    own = np.where(cells > 0, weights, ZERO).sum(axis=1, dtype=np.uint64)
    opp = np.where(cells < 0, weights, ZERO).sum(axis=1, dtype=np.uint64)
    return own, opp
