"""Batches for the peers: views of rows that lie shuffled in memory, which is the least that drawing can cost."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(rows: Tensor, batch_rows: int, seed: int) -> Iterator[Tensor]:
    """Endless (batch_rows, d) views; rows: (n, d), shuffled once, by seed."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    shuffled = rows[order]
    whole = len(rows) // batch_rows * batch_rows
    while True:
        yield from shuffled[:whole].split(batch_rows)
