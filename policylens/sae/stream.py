"""Normalised batches of training rows, the same ones whenever a step is asked for; the next pool loads meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae.normalisation import Normalisation
from policylens.sae.order import Order, Pool
from policylens.sae.parallel import by_rows
from policylens.sae.selection import Chunk, Selection


class Batch(NamedTuple):
    """x: (n, d_in) normalised float32. target: (n, d_out) likewise; x itself for an SAE. Overwritten by the next."""

    x: Tensor
    target: Tensor


class _Loaded(NamedTuple):
    """A pool in memory. first: position of its first draw among all draws. drawn: places in its rows."""

    first: int
    drawn: Tensor
    rows: Chunk


class Stream:
    """Batch after batch from any step on. Holds at most two pools in memory.

    order: which rows come when. before, after: normalisation of the inputs and of the targets.
    device: where batches are wanted; a pool that is all there is lies there too.
    """

    def __init__(
        self,
        selection: Selection,
        order: Order,
        batch_rows: int,
        before: Normalisation,
        after: Normalisation,
        device: str = "cpu",
    ) -> None:
        self._selection, self._order, self.batch_rows = selection, order, batch_rows
        self._before, self._after, self._device = before, after, device
        self._content: tuple[Pool, Chunk] | None = None
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def batches(self, step: int = 0) -> Iterator[Batch]:
        """All batches from a step on, without end."""
        position = step * self.batch_rows
        pools = self._loaded(position)
        pool = next(pools)
        while True:
            x, target = self._buffer("x", self._selection.d_in), None
            if self._selection.pieces[0].targets is not None:
                target = self._buffer("target", self._selection.d_out)
            filled = 0
            while filled < self.batch_rows:
                if position == pool.first + len(pool.drawn):
                    del pool  # so that no more than two are in memory
                    pool = next(pools)
                start = position - pool.first
                places = pool.drawn[start : start + self.batch_rows - filled]
                piece = slice(filled, filled + len(places))
                _take(pool.rows.inputs, places, x[piece], self._before)
                if target is not None:
                    _take(pool.rows.targets, places, target[piece], self._after)
                filled, position = piece.stop, position + len(places)
            yield Batch(x, x if target is None else target)

    def _buffer(self, name: str, width: int) -> Tensor:
        key = (name, width)
        if key not in self._buffers:
            self._buffers[key] = torch.empty((self.batch_rows, width), device=self._device)
        return self._buffers[key]

    def _loaded(self, position: int) -> Iterator[_Loaded]:
        """Pools from the one on that holds a position; the next is loaded while one is used."""
        with ThreadPoolExecutor(1) as worker:
            waiting: Future[_Loaded] | None = None
            try:
                for first, epoch, number, pool in self._pools(position):
                    coming = worker.submit(self._load, first, epoch, number, pool)
                    if waiting is not None:
                        yield waiting.result()
                    waiting = coming
            finally:
                if waiting is not None:
                    waiting.cancel()

    def _pools(self, position: int) -> Iterator[tuple[int, int, int, Pool]]:
        """(first position, epoch, number, pool) of all pools that end after a position."""
        epoch = position // self._order.rows_per_epoch
        first = epoch * self._order.rows_per_epoch
        while True:
            for number, pool in enumerate(self._order.pools(epoch)):
                if pool.draws and first + pool.draws > position:
                    yield first, epoch, number, pool
                first += pool.draws
            epoch += 1

    def _load(self, first: int, epoch: int, number: int, pool: Pool) -> _Loaded:
        drawn = torch.from_numpy(self._order.drawn(epoch, number, pool)).to(self._device)
        return _Loaded(first, drawn, self._rows(pool))

    def _rows(self, pool: Pool) -> Chunk:
        if self._content is not None and self._content[0] == pool:
            return self._content[1]
        rows = self._selection.gather(pool.chunks)
        rows = Chunk(*(None if part is None else part.to(self._device) for part in rows))
        if self._order.resident:
            self._content = (pool, rows)
        return rows


def _take(rows: Tensor, places: Tensor, out: Tensor, normalisation: Normalisation) -> None:
    def part(places: Tensor, out: Tensor) -> None:
        if rows.dtype is out.dtype:
            torch.index_select(rows, 0, places, out=out)
        else:
            out.copy_(rows.index_select(0, places))
        normalisation.apply_(out)

    by_rows(part, places, out)


def monitor(
    selection: Selection, before: Normalisation, after: Normalisation, count: int, seed: int, device: str
) -> Batch:
    """A fixed normalised sample of the selection's rows, on which the history is measured; drawn by their weights."""
    rng = np.random.default_rng(seed)
    weights = selection.weights
    likely = None if weights is None else weights / weights.sum()
    there = selection.n_rows if weights is None else np.count_nonzero(weights)
    numbers = rng.choice(selection.n_rows, min(count, there), replace=False, p=likely)
    rows = selection.rows(numbers)
    x = before.apply(rows.inputs.float()).to(device)
    return Batch(x, x if rows.targets is None else after.apply(rows.targets.float()).to(device))
