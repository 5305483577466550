"""Two buffers per array: one is filled while the other is hashed and written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

PassOn = Callable[[np.ndarray], Sequence[threading.Event]]


class DoubleBuffer:
    """Cuts rows that come in any portions into whole shards, in memory that is allocated once.

    rows: of a shard. pass_on: takes a shard, which it must not change, and says by which events it is done with it.
    """

    def __init__(self, rows: int, row_shape: tuple[int, ...], dtype: np.dtype, pass_on: PassOn) -> None:
        self._rows, self._row_shape, self._dtype, self._pass_on = rows, row_shape, dtype, pass_on
        self._filling = self._allocate()
        self._filled = 0
        self._other: np.ndarray | None = None
        self._busy: Sequence[threading.Event] = ()

    def append(self, rows: np.ndarray) -> None:
        """Copy rows, (n, *row_shape), in, passing on every shard that is full. Waits while both buffers are."""
        while len(rows):
            count = min(len(rows), self._rows - self._filled)
            np.copyto(self._filling[self._filled : self._filled + count], rows[:count], casting="unsafe")
            self._filled += count
            rows = rows[count:]
            if self._filled == self._rows:
                self.flush()

    def flush(self) -> None:
        """Pass on what is there, and go on with the other buffer once that is free."""
        if not self._filled:
            return
        busy = self._pass_on(self._filling[: self._filled])
        for event in self._busy:
            event.wait()
        other = self._allocate() if self._other is None else self._other
        self._filling, self._other, self._filled, self._busy = other, self._filling, 0, busy

    def _allocate(self) -> np.ndarray:
        # The system gives memory only to pages that are written to: a store of few rows takes no more than those.
        return np.empty((self._rows, *self._row_shape), self._dtype)
