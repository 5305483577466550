"""Contrasts as weights of cells: a difference of means over rows is `weights @ sums`."""

from __future__ import annotations

import math

import numpy as np

from policylens.directions.cells import Cells
from policylens.statistics.exchanges import MINIMUM_ARRANGEMENTS

NEGATIVE, POSITIVE, BOTH = range(3)


def contrast(cells: Cells, positive: np.ndarray | None = None, kept: np.ndarray | None = None) -> np.ndarray:
    """Weights (..., c) of the positive rows' mean less the negative ones'; NaN where either side has no rows.

    positive: (..., c) bool, instead of the cells' own. kept: (..., c) how much each cell counts, 0 to leave it out.
    """
    labels = cells.positive if positive is None else positive
    kept = np.ones(len(cells)) if kept is None else kept
    sides = [kept * side for side in (labels, ~labels)]
    rows = [(side @ cells.count)[..., None] for side in sides]
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = sides[0] / rows[0] - sides[1] / rows[1]
    return np.where((rows[0] > 0) & (rows[1] > 0), weights, np.nan)


def midpoint(cells: Cells, positive: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Weights (..., c) of the point half way between the two means."""
    sides = [kept * side for side in (positive, ~positive)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(side / (side @ cells.count)[..., None] for side in sides) / 2


def kinds(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Episodes (e,), what each shows (NEGATIVE, POSITIVE or BOTH), and the place (c,) of each cell's episode."""
    episodes, of_cell = np.unique(cells.episode, return_inverse=True)
    of_cell = of_cell.reshape(-1)
    shows = np.zeros((2, len(episodes)), bool)
    shows[cells.positive.astype(int), of_cell] = True
    return episodes, np.where(shows.all(0), BOTH, shows[1].astype(int)), of_cell


def arrangements(kind: np.ndarray) -> float:
    """How many ways there are to rearrange the concepts among the episodes, as a logarithm."""
    single, pairs = kind[kind != BOTH], int((kind == BOTH).sum())
    ones = int(single.sum())
    return math.log(math.comb(len(single), ones)) + pairs * math.log(2)


def enough_arrangements(cells: Cells) -> bool:
    """Whether episodes' concepts can be rearranged in so many ways that a p-value of .05 is possible."""
    return arrangements(kinds(cells)[1]) >= math.log(MINIMUM_ARRANGEMENTS) - 1e-9


def relabelled(cells: Cells, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rearranged concepts of the cells, (count, c) bool.

    Episodes that show one concept exchange it with each other; one that shows both swaps them, or not.
    """
    _, kind, of_cell = kinds(cells)
    single = np.flatnonzero(kind != BOTH)
    swapped = np.zeros((count, len(kind)), bool)
    for draw in swapped:
        draw[single] = kind[single] != rng.permutation(kind[single])
        draw[kind == BOTH] = rng.integers(0, 2, int((kind == BOTH).sum())).astype(bool)
    return cells.positive ^ swapped[:, of_cell]


def halves(cells: Cells, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random halves of the episodes, (count, e) bool: half of those of each kind (or nearly, of odd numbers)."""
    return np.stack([_folds(cells, 2, rng) == 0 for _ in range(count)])


def folds(cells: Cells, count: int, rng: np.random.Generator) -> np.ndarray:
    """(c,) fold of each cell, 0 to count - 1: whole episodes, each kind shared out evenly."""
    return _folds(cells, count, rng)[kinds(cells)[2]]


def _folds(cells: Cells, count: int, rng: np.random.Generator) -> np.ndarray:
    _, kind, _ = kinds(cells)
    fold = np.empty(len(kind), np.int64)
    for own in np.unique(kind):
        mine = np.flatnonzero(kind == own)
        fold[rng.permutation(mine)] = (np.arange(len(mine)) + rng.integers(count)) % count
    return fold
