"""Two buffers per array: one is filled while the other is written."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import numpy as np

HandOver = Callable[[np.ndarray], Event]
"""Takes rows, which it must not change, and says by an event when it is done with them."""


class DoubleBuffer:
    """Cuts rows that come in any portions into whole shards, in memory that is allocated once.

    rows: of a shard. read: takes every portion as soon as it is there, while the processor still has it in its cache.
    write: takes every whole shard. Both take them in order; their rows are overwritten once both are done.
    """

    def __init__(self, rows: int, row_shape: tuple[int, ...], dtype: np.dtype, read: HandOver, write: HandOver) -> None:
        self._rows, self._row_shape, self._dtype = rows, row_shape, dtype
        self._read, self._write = read, write
        self._filling = self._allocate()
        self._filled = 0
        self._has_read = Event()
        self._other: np.ndarray | None = None
        self._busy: tuple[Event, ...] = ()

    def append(self, rows: np.ndarray) -> None:
        """Copy rows, (n, *row_shape), in, handing over every shard that is full. Waits while both buffers are."""
        while len(rows):
            portion = self._filling[self._filled : self._filled + len(rows)]
            np.copyto(portion, rows[: len(portion)], casting="unsafe")
            self._has_read = self._read(portion)
            self._filled += len(portion)
            rows = rows[len(portion) :]
            if self._filled == self._rows:
                self.flush()

    def flush(self) -> None:
        """Hand over what is there, and go on with the other buffer once that is free."""
        if not self._filled:
            return
        busy = self._has_read, self._write(self._filling[: self._filled])
        for event in self._busy:
            event.wait()
        other = self._allocate() if self._other is None else self._other
        self._filling, self._other, self._filled, self._busy = other, self._filling, 0, busy

    def _allocate(self) -> np.ndarray:
        # The system gives memory only to pages that are written to: a store of few rows takes no more than those.
        return np.empty((self._rows, *self._row_shape), self._dtype)
