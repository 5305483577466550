"""Partners between two dictionaries: which direction (or latent) of one corresponds to which of the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policylens.errors import UserError

EXACT = 4096
"""The widest dictionary for which the best assignment is computed: its time grows with the cube of the width."""

THRESHOLDS = (0.9, 0.8, 0.7)
BLOCK_ENTRIES = 1 << 24

METHODS = ("hungarian", "mutual nearest")


class Matching(NamedTuple):
    """Partners, each row and each column at most once.

    first, second: (k,) int64 positions in the two dictionaries, `first` ascending. similarity: (k,) float64.
    method: "hungarian", the assignment with the largest sum, in which everything of the smaller side has a partner;
        or "mutual nearest", the pairs each of which is the other's nearest.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    method: str


class Nearest(NamedTuple):
    """Largest similarity of every row and of every column, and where: (a,), (a,), (b,), (b,)."""

    of_first: np.ndarray
    at_first: np.ndarray
    of_second: np.ndarray
    at_second: np.ndarray


def unit_rows(directions: np.ndarray) -> np.ndarray:
    """Directions (m, d) at norm 1, float32; UserError for a zero direction, which has no angle to any other."""
    directions = np.asarray(directions, dtype=np.float32)
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    if (norms == 0).any():
        raise UserError(f"directions: {int((norms == 0).sum())} of {len(norms)} are zero vectors; leave them out")
    return directions / norms


def best_assignment(similarity: np.ndarray) -> Matching:
    """The one-to-one assignment with the largest sum of similarities (a, b): the Hungarian method."""
    from scipy.optimize import linear_sum_assignment

    first, second = linear_sum_assignment(similarity, maximize=True)
    return Matching(first, second, similarity[first, second].astype(np.float64), METHODS[0])


def nearest(first: np.ndarray, second: np.ndarray) -> Nearest:
    """Nearest unit vector of the other set by cosine, for (a, d) and (b, d); a block of rows in memory at a time.

    Of equally near ones it is the one that comes first.
    """
    block = max(1, BLOCK_ENTRIES // len(second))
    of_first, at_first = np.empty(len(first)), np.empty(len(first), np.int64)
    of_second, at_second = np.full(len(second), -np.inf), np.zeros(len(second), np.int64)
    for start in range(0, len(first), block):
        cosines = first[start : start + block] @ second.T
        rows = slice(start, start + len(cosines))
        at_first[rows] = cosines.argmax(axis=1)
        of_first[rows] = cosines.max(axis=1)
        largest = cosines.max(axis=0)
        nearer = largest > of_second
        of_second[nearer] = largest[nearer]
        at_second[nearer] = start + cosines.argmax(axis=0)[nearer]
    return Nearest(of_first, at_first, of_second, at_second)


def mutual(found: Nearest) -> Matching:
    """The pairs each of which is the other's nearest: bounded memory and time, but some are left without partner."""
    rows = np.flatnonzero(found.at_second[found.at_first] == np.arange(len(found.at_first)))
    return Matching(rows, found.at_first[rows], found.of_first[rows], METHODS[1])


def match_directions(first: np.ndarray, second: np.ndarray, exact: int = EXACT) -> Matching:
    """Partners by cosine between unit vectors (a, d) and (b, d).

    Up to `exact` vectors on either side by the Hungarian method, beyond that mutual nearest neighbours: fewer pairs,
    each of them the best for both. (The Hungarian method gives up a good pair for a larger sum, so that its shares
    can lie below or above.)
    """
    if max(len(first), len(second)) <= exact:
        return best_assignment(first @ second.T)
    return mutual(nearest(first, second))


def shares(matching: Matching, count: int, thresholds: tuple[float, ...] = THRESHOLDS) -> dict[str, float]:
    """Per threshold the share of `count` vectors, those of both sides together, that have a partner as similar."""
    return {f"{limit:g}": 2 * int((matching.similarity >= limit).sum()) / count for limit in thresholds}
