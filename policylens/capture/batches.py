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
    names = list(names)
    for start in range(0, len(rows), size):
        yield read_batch(source, names, rows[start : start + size])


def batches(source: Table, names: Iterable[str], rows: slice, size: int) -> Iterator[Batch]:
    """Consecutive batches of at most `size` rows over a slice of a source."""
    columns = {name: source.array(name) for name in names}
    for start in range(rows.start, rows.stop, size):
        piece = slice(start, min(start + size, rows.stop))
        yield {name: column.read(piece) for name, column in columns.items()}
