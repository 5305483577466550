"""From a source's rows to the batches that a policy is run on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from policylens.policies.protocol import Batch
from policylens.stores.tables import Table


def read_batch(source: Table, names: Iterable[str], rows: np.ndarray | slice) -> dict[str, np.ndarray]:
    """Observations at some rows of a source.

    names: the arrays that make up an observation (a family's `observations`).
    rows: row numbers or a slice. Returns name -> (n, *row shape).
    """
    return {name: source.array(name).read(rows) for name in names}


def batches_of_rows(source: Table, names: Iterable[str], rows: np.ndarray, size: int) -> Iterator[Batch]:
    """Consecutive batches of at most `size` of some rows of a source. rows: (n,) row numbers."""
    columns = {name: source.array(name) for name in names}
    for start in range(0, len(rows), size):
        piece = _span(rows[start : start + size])
        yield {name: column.read(piece) for name, column in columns.items()}


def _span(rows: np.ndarray) -> np.ndarray | slice:
    """Neighbours in ascending order as a slice, which is read without being picked from; others as they are."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else rows
