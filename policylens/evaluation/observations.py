"""A source's observations as columns for a linear probe: what can be read off before any network has seen them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policylens.stores.tables import Table

MOST_VALUES = 8
WIDEST = 1024
BLOCK_ROWS = 2048


class Encoding:
    """Observations as float32 columns.

    Integers with at most 8 different values (a board's squares, a tile's kind) are one column per value, since a linear
    probe cannot see from -1, 0, 1 that a square is empty. Everything else is taken as a number. More than 1024 columns
    (images) are projected to 1024 random directions, which keep distances up to a few percent.
    """

    def __init__(self, source: Table, names: Sequence[str], train: np.ndarray, seed: int) -> None:
        """names: arrays of the source. train: rows that say which values there are."""
        self._source, self._names = source, list(names)
        self._values = {name: self._kinds(name, train) for name in self._names}
        width = self._encoded(train[:1]).shape[1]
        self._directions = None
        if width > WIDEST:
            drawn = np.random.default_rng(seed).standard_normal((width, WIDEST), dtype=np.float32)
            self._directions = drawn / np.float32(np.sqrt(WIDEST))

    def _kinds(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        column = self._source.array(name)
        if column.dtype.kind not in "iu":
            return None
        values: set[int] = set()
        for start in range(0, len(rows), BLOCK_ROWS):
            values |= set(np.unique(column.read(rows[start : start + BLOCK_ROWS])).tolist())
            if len(values) > MOST_VALUES:
                return None
        return np.array(sorted(values))

    def _encoded(self, rows: np.ndarray) -> np.ndarray:
        parts = []
        for name in self._names:
            own, kinds = self._source.array(name).read(rows).reshape(len(rows), -1), self._values[name]
            parts.append(own if kinds is None else (own[:, :, None] == kinds).reshape(len(rows), -1))
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")

    def columns(self, rows: np.ndarray) -> np.ndarray:
        """(n, width) float32 of rows of the source."""
        blocks = [self._encoded(rows[start : start + BLOCK_ROWS]) for start in range(0, len(rows), BLOCK_ROWS)]
        if self._directions is not None:
            blocks = [block @ self._directions for block in blocks]
        return np.concatenate(blocks)
