"""In which order rows are drawn: a function of the seed and the position alone, so that training can go on anywhere.

Rows are drawn epoch by epoch. In each epoch the chunks are put into a new random order and cut into pools, as many
chunks as fit in memory; within a pool all rows are shuffled. With one pool this is a perfect shuffle; with several it
is one as far as a pool reaches, since a pool mixes chunks from all over the data (as CorgiPile does: Xu et al. 2022,
arXiv:2206.05830).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policylens.errors import UserError

CHUNKS, DRAWS = range(2)


class Pool(NamedTuple):
    """Chunks that are in memory together. chunks: their numbers. draws: rows that are drawn from it."""

    chunks: tuple[int, ...]
    draws: int


class Order:
    """Pools of every epoch, and the rows drawn from each.

    bounds: (chunks + 1,) first row of every chunk. pool_rows: rows of a pool at most (but a chunk at least).
    replacement: rows of a pool are drawn independently; else each once. weights: (rows,) or None: how much likelier
    than others each row is drawn, which needs replacement.
    """

    def __init__(
        self,
        bounds: np.ndarray,
        pool_rows: int,
        seed: int,
        *,
        replacement: bool,
        weights: np.ndarray | None = None,
    ) -> None:
        if weights is not None and not replacement:
            raise UserError("row weights need rows drawn with replacement; set sampling: replacement")
        self.bounds, self.rows_per_epoch = bounds, int(bounds[-1])
        self._seed, self._replacement, self._weights = seed, replacement, weights
        self._lengths = np.diff(bounds)
        self._mass = self._lengths if weights is None else np.add.reduceat(weights, bounds[:-1])
        if self._mass.sum() <= 0:
            raise UserError("all row weights are 0: there is nothing to draw")
        self.resident = self.rows_per_epoch <= pool_rows
        self._pool_rows = pool_rows

    def pools(self, epoch: int) -> list[Pool]:
        """The pools of an epoch, whose draws sum to the number of rows."""
        count = len(self._lengths)
        if self.resident:
            return [Pool(tuple(range(count)), self.rows_per_epoch)]
        chunks = self._generator(CHUNKS, epoch).permutation(count)
        filled = np.cumsum(self._lengths[chunks])
        cuts, start = [], 0
        while start < count:
            before = filled[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(filled, before + self._pool_rows, side="right")))
            cuts.append(chunks[start:stop])
            start = stop
        ends = np.cumsum([self._mass[cut].sum() for cut in cuts])
        ends = np.rint(self.rows_per_epoch * ends / ends[-1]).astype(np.int64)
        draws = np.diff(ends, prepend=0)
        return [Pool(tuple(int(c) for c in cut), int(n)) for cut, n in zip(cuts, draws, strict=True)]

    def drawn(self, epoch: int, number: int, pool: Pool) -> np.ndarray:
        """(draws,) int64 places in the pool, its chunks' rows lying one after the other, in the order of drawing."""
        rng = self._generator(DRAWS, epoch, number)
        length = int(self._lengths[list(pool.chunks)].sum())
        if self._weights is not None:
            return rng.choice(length, pool.draws, p=self._probabilities(pool))
        return rng.integers(0, length, pool.draws) if self._replacement else rng.permutation(length)

    def _probabilities(self, pool: Pool) -> np.ndarray:
        weights = np.concatenate([self._weights[self.bounds[c] : self.bounds[c + 1]] for c in pool.chunks])
        return weights / weights.sum()

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, *purpose])))
