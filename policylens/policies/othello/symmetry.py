"""The eight symmetries of the board, and the key of a position's symmetry class."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.randomness import mix
from policylens.policies.othello.rules import ACTIONS, ONE, PASS, SIDE, SQUARES, U64


def _permutations() -> NDArray[np.int64]:
    board = np.arange(SQUARES).reshape(SIDE, SIDE)
    turned = [np.rot90(board, quarter) for quarter in range(4)]
    images = [image for turn in turned for image in (turn, turn[:, ::-1])]
    squares = np.stack([image.ravel() for image in images])
    return np.hstack([squares, np.full((8, 1), PASS)]).astype(np.int64)


# (8, 37): image[k][action] = original[SYMMETRIES[k, action]]; number 0 is the identity. The pass stays the pass.
SYMMETRIES = _permutations()
assert SYMMETRIES.shape == (8, ACTIONS)


@njit("uint64(uint64, int64)", cache=True)
def image(board, symmetry):
    """A bitboard under one of the eight symmetries."""
    result = U64(0)
    for square in range(SQUARES):
        result |= ((board >> U64(SYMMETRIES[symmetry, square])) & ONE) << U64(square)
    return result


@njit("UniTuple(uint64, 2)(uint64, uint64)", cache=True)
def canonical(own, opp):
    """The smallest of a position's eight images, compared as (own, opp)."""
    best_own, best_opp = own, opp
    for symmetry in range(1, 8):
        image_own, image_opp = image(own, symmetry), image(opp, symmetry)
        if image_own < best_own or (image_own == best_own and image_opp < best_opp):
            best_own, best_opp = image_own, image_opp
    return best_own, best_opp


@njit("void(uint64[:], uint64[:], uint64[:])", cache=True)
def _class_keys(own, opp, keys):
    for row in range(own.shape[0]):
        smallest_own, smallest_opp = canonical(own[row], opp[row])
        keys[row] = mix(mix(smallest_own) + smallest_opp)


def class_keys(own: NDArray[np.uint64], opp: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One 64-bit key per position, (n,), equal for positions that are images of each other.

    The key is a hash: among a million classes two share a key with a chance of about 3e-8.
    """
    keys = np.empty(len(own), np.uint64)
    _class_keys(np.ascontiguousarray(own), np.ascontiguousarray(opp), keys)
    return keys
