"""Digest of an array's values: the same whatever its chunks, shards and compression."""

from __future__ import annotations

import hashlib

import numpy as np


class ArrayDigest:
    """sha256 over dtype, row shape, number of rows and values (C order, little endian), fed in pieces.

    row_shape: shape of one row, () for a vector.
    """

    def __init__(self, dtype: np.dtype, row_shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._row_shape = tuple(row_shape)
        self._values = hashlib.sha256()
        self._rows = 0

    def update(self, rows: np.ndarray) -> None:
        """Add rows, (n, *row_shape)."""
        self._rows += len(rows)
        self._values.update(np.ascontiguousarray(rows, dtype=self._dtype).data)

    def hexdigest(self) -> str:
        """The digest of everything fed so far."""
        head = f"{self._dtype.str} {self._rows} {list(self._row_shape)} ".encode()
        return hashlib.sha256(head + self._values.digest()).hexdigest()
