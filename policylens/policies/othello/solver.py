"""Alpha-beta search on bitboards: exact endgame values, and the classical opponents' look-ahead.

One search serves both. It keeps its own stack instead of calling itself, because recursive compiled functions
cannot be kept in numba's cache. Scores are integers: 1000 per disc at the end of the game, and a heuristic,
which stays below one disc's worth, where the depth runs out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.rules import (
    ACTIONS,
    LONGEST_GAME,
    ONE,
    PASS,
    SQUARES,
    U64,
    ZERO,
    disc_difference,
    legal_moves,
    lowest,
    play,
    popcount,
)

DISC = 1000
INFINITY = DISC * 64
TO_THE_END = LONGEST_GAME
_ORDERING_EMPTIES = 5  # with fewer empty squares, sorting the moves costs more than it saves
_LEVELS = LONGEST_GAME + 1
_MOST_MOVES = 32

SQUARE_WEIGHTS = np.array([100, -20, 10, 10, -20, 100, -20, -40, -2, -2, -40, -20, 10, -2, 1, 1, -2, 10] * 2, np.int64)
SQUARE_WEIGHTS[SQUARES // 2 :] = SQUARE_WEIGHTS[: SQUARES // 2][::-1]
_MOBILITY_WEIGHT = 8
_CORNERS = U64(1 | (1 << 5) | (1 << 30) | (1 << 35))


@njit("int64(uint64, uint64)", cache=True)
def heuristic(own, opp):
    """Weighted squares plus mobility, for the side to move: a classical evaluation, in no unit."""
    score = _MOBILITY_WEIGHT * (popcount(legal_moves(own, opp)) - popcount(legal_moves(opp, own)))
    for square in range(SQUARES):
        bit = ONE << U64(square)
        if own & bit:
            score += SQUARE_WEIGHTS[square]
        elif opp & bit:
            score -= SQUARE_WEIGHTS[square]
    return score


@njit("int64(uint64, uint64, int64[:])", cache=True)
def _ordered_moves(own, opp, moves):
    """Write the legal moves into `moves`, those first that leave the opponent least to do. Returns how many."""
    legal = legal_moves(own, opp)
    sorting = popcount(~(own | opp) & U64((1 << SQUARES) - 1)) >= _ORDERING_EMPTIES
    keys = np.empty(_MOST_MOVES, np.int64)
    count = 0
    while legal != ZERO:
        move = lowest(legal)
        legal &= legal - ONE
        key = 0
        if sorting:
            next_own, next_opp = play(own, opp, move)
            replies = legal_moves(next_own, next_opp)
            key = popcount(replies) + 2 * popcount(replies & _CORNERS)
        at = count
        while at > 0 and keys[at - 1] > key:
            keys[at], moves[at] = keys[at - 1], moves[at - 1]
            at -= 1
        keys[at], moves[at] = key, move
        count += 1
    return count


@njit("int64(uint64, uint64, int64, int64, int64)", cache=True)
def alpha_beta(own, opp, depth, alpha, beta):
    """Score of a position for the side to move, searched `depth` discs deep (a pass costs no depth).

    Exact if it lies between alpha and beta, else a bound on the side where it lies (fail-soft).
    """
    owns, opps = np.empty(_LEVELS, np.uint64), np.empty(_LEVELS, np.uint64)
    lows, highs = np.empty(_LEVELS, np.int64), np.empty(_LEVELS, np.int64)
    best, depths = np.empty(_LEVELS, np.int64), np.empty(_LEVELS, np.int64)
    moves = np.empty((_LEVELS, _MOST_MOVES), np.int64)
    counts, tried = np.empty(_LEVELS, np.int64), np.empty(_LEVELS, np.int64)
    owns[0], opps[0], lows[0], highs[0], depths[0] = own, opp, alpha, beta, depth
    level, entering = 0, True
    while True:
        if entering:
            own, opp = owns[level], opps[level]
            best[level], tried[level] = -INFINITY, 0
            counts[level] = _ordered_moves(own, opp, moves[level])
            if counts[level] == 0:
                if legal_moves(opp, own) == ZERO:
                    best[level] = DISC * disc_difference(own, opp)
                else:
                    moves[level, 0], counts[level] = PASS, 1
            elif depths[level] <= 0:
                best[level], counts[level] = heuristic(own, opp), 0
        if tried[level] < counts[level] and lows[level] < highs[level]:
            move = moves[level, tried[level]]
            tried[level] += 1
            owns[level + 1], opps[level + 1] = play(owns[level], opps[level], move)
            depths[level + 1] = depths[level] - (0 if move == PASS else 1)
            lows[level + 1], highs[level + 1] = -highs[level], -lows[level]
            level, entering = level + 1, True
            continue
        if level == 0:
            return best[0]
        level, entering = level - 1, False
        best[level] = max(best[level], -best[level + 1])
        lows[level] = max(lows[level], best[level])


@njit("void(uint64[:], uint64[:], int64[:])", cache=True)
def _solve(own, opp, values):
    for row in range(own.shape[0]):
        values[row] = alpha_beta(own[row], opp[row], TO_THE_END, -INFINITY, INFINITY) // DISC


def solve(own: NDArray[np.uint64], opp: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Exact disc difference under perfect play for the side to move, (n,).

    Takes about a millisecond per position with 12 empty squares, and three times as long per further two.
    """
    values = np.empty(len(own), np.int64)
    _solve(np.ascontiguousarray(own), np.ascontiguousarray(opp), values)
    return values


@njit("void(uint64, uint64, int64, int64[:])", cache=True)
def move_scores(own, opp, depth, scores):
    """Write every legal action's score, after `depth` discs, into `scores` (37,); -INFINITY where illegal."""
    scores[:] = -INFINITY
    moves = np.empty(_MOST_MOVES, np.int64)
    count = _ordered_moves(own, opp, moves)
    if count == 0 and legal_moves(opp, own) != ZERO:
        moves[0], count = PASS, 1
    for index in range(count):
        next_own, next_opp = play(own, opp, moves[index])
        below = depth if moves[index] == PASS else depth - 1
        scores[moves[index]] = -alpha_beta(next_own, next_opp, below, -INFINITY, INFINITY)


def solve_moves(own: np.uint64, opp: np.uint64) -> dict[int, int]:
    """Exact disc difference after each legal action, for the side that moves: action -> discs."""
    scores = np.empty(ACTIONS, np.int64)
    move_scores(own, opp, TO_THE_END, scores)
    return {int(action): int(scores[action]) // DISC for action in np.flatnonzero(scores > -INFINITY)}
