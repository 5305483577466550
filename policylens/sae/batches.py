"""Training rows in, normalised batches out: resident activations, seeded drawing, one buffer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.normalisation import CHUNK_ROWS, Normalisation


def as_rows(activations: np.ndarray | Tensor) -> Tensor:
    """Activations as an (n, d) float tensor, checked: not empty, every value finite."""
    rows = activations
    if isinstance(rows, np.ndarray):
        rows = torch.from_numpy(np.require(rows, requirements="W"))
    if rows.ndim != 2 or not rows.is_floating_point():
        raise UserError(f"activations: (rows, width) floats needed, got {rows.dtype} of shape {tuple(rows.shape)}")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise UserError(f"activations: there is nothing to train on (shape {tuple(rows.shape)})")
    _check_finite(rows)
    return rows


def _check_finite(rows: Tensor) -> None:
    for number, chunk in enumerate(rows.split(CHUNK_ROWS)):
        # The sum is finite if and only if all terms are: one pass, no mask in memory.
        if not torch.isfinite(chunk.sum(dtype=torch.float64)):
            broken = int((~torch.isfinite(chunk).all(1)).nonzero()[0, 0])
            raise UserError(
                f"activations: row {number * CHUNK_ROWS + broken} holds NaN or infinity; drop or repair that row"
            )


class Batches:
    """Endless normalised batches, (batch_rows, d) float32, always in the same memory.

    rows: (n, d) resident activations. replacement: draw each row independently; else shuffled epochs, whose last
    rows go on into the next epoch, so that no batch is short and no row is left out.
    """

    def __init__(
        self, rows: Tensor, normalisation: Normalisation, batch_rows: int, seed: int, *, replacement: bool
    ) -> None:
        self._rows, self._normalisation, self._replacement = rows, normalisation, replacement
        self._generator = torch.Generator().manual_seed(seed)
        self._indices = torch.empty(batch_rows, dtype=torch.int64)
        self._raw = torch.empty((batch_rows, rows.shape[1]), dtype=rows.dtype, device=rows.device)
        self._order = torch.empty(0, dtype=torch.int64)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            indices = self._draw().to(self._rows.device)
            torch.index_select(self._rows, 0, indices, out=self._raw)
            yield self._normalisation.apply_(self._raw.float())

    def _draw(self) -> Tensor:
        if self._replacement:
            return torch.randint(len(self._rows), self._indices.shape, generator=self._generator, out=self._indices)
        while len(self._order) < len(self._indices):
            self._order = torch.cat([self._order, torch.randperm(len(self._rows), generator=self._generator)])
        batch, self._order = self._order[: len(self._indices)], self._order[len(self._indices) :]
        return batch
