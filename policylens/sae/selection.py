"""Which rows an SAE is trained on: some rows of one or more captures at a site, read piece by piece.

A capture's row may hold several positions (the (y, x) of a layer): each is a row to an SAE, as it is to a 1x1
convolution. For a transcoder every row comes with the activation at a second site, which is the target.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError

CHUNK_VALUES = 2**21


class Readable(Protocol):
    """What activations are read from: a capture's column, or an array in memory."""

    shape: tuple[int, ...]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Values at row numbers, (r, *inner, d) floats."""


class Piece(NamedTuple):
    """Rows of one capture.

    inputs, targets: its columns; targets is None for an SAE. numbers: (r,) int64 the rows taken, ascending.
    weights: (r,) how much likelier than others each is drawn, or None. name: for messages.
    """

    inputs: Readable
    targets: Readable | None
    numbers: np.ndarray
    weights: np.ndarray | None
    name: str


class InMemory:
    """An array (n, *inner, d) as a readable column."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Values at row numbers."""
        first, last = int(rows[0]), int(rows[-1]) + 1
        return self.values[first:last] if last - first == len(rows) else self.values[rows]


class Chunk(NamedTuple):
    """Rows of an SAE in the precision of the store, on the CPU. targets: None for an SAE."""

    inputs: Tensor
    targets: Tensor | None


class Selection:
    """The rows of all pieces, one after the other, cut into chunks that do not cross pieces.

    d_in, d_out: widths. positions: SAE rows per row of a capture. n_rows: SAE rows in all.
    bounds: (chunks + 1,) the first SAE row of every chunk. weights: (n_rows,) or None.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = list(pieces)
        first = self.pieces[0]
        self.d_in = first.inputs.shape[-1]
        self.d_out = self.d_in if first.targets is None else first.targets.shape[-1]
        self.positions = math.prod(first.inputs.shape[1:-1])
        for piece in self.pieces:
            self._check(piece)
        self.n_rows = sum(len(piece.numbers) for piece in self.pieces) * self.positions
        size = max(1, CHUNK_VALUES // (self.d_in * self.positions))
        self._chunks = [
            (piece, slice(start, min(start + size, len(piece.numbers))))
            for piece in self.pieces
            for start in range(0, len(piece.numbers), size)
        ]
        lengths = [(part.stop - part.start) * self.positions for _, part in self._chunks]
        self.bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _check(self, piece: Piece) -> None:
        if len(piece.numbers) == 0 or self.d_in == 0:
            raise UserError(f"{piece.name}: there is nothing to train on; record more episodes, or filter less")
        widths = (piece.inputs.shape[-1], math.prod(piece.inputs.shape[1:-1]))
        if widths != (self.d_in, self.positions):
            raise UserError(
                f"{piece.name}: width {widths[0]} with {widths[1]} positions per row, where {self.pieces[0].name} has "
                f"{self.d_in} with {self.positions}; train on captures of one policy and site"
            )
        if piece.targets is not None and math.prod(piece.targets.shape[1:-1]) != self.positions:
            raise UserError(
                f"{piece.name}: the output site has other positions per row; choose a site of the same ones"
            )

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._chunks)

    @functools.cached_property
    def weights(self) -> np.ndarray | None:
        """(n_rows,) float64 weight of every SAE row, or None where all are alike."""
        if all(piece.weights is None for piece in self.pieces):
            return None
        parts = [np.ones(len(p.numbers)) if p.weights is None else p.weights for p in self.pieces]
        return np.repeat(np.concatenate(parts).astype(np.float64), self.positions)

    def chunk(self, number: int) -> Chunk:
        """One chunk; UserError if a value is not finite."""
        piece, part = self._chunks[number]
        rows = piece.numbers[part]
        inputs = _flat(piece.inputs.read(rows))
        _check_finite(inputs, piece, rows, self.positions)
        targets = None
        if piece.targets is not None:
            targets = _flat(piece.targets.read(rows))
            _check_finite(targets, piece, rows, self.positions)
        return Chunk(inputs, targets)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order."""
        return (self.chunk(number) for number in range(len(self)))

    def gather(self, numbers: Sequence[int]) -> Chunk:
        """Several chunks as one, in memory that is filled piece by piece."""
        count = int(sum(self.bounds[number + 1] - self.bounds[number] for number in numbers))
        inputs, targets, start = None, None, 0
        for number in numbers:
            chunk = self.chunk(number)
            if inputs is None:
                inputs = chunk.inputs.new_empty((count, self.d_in))
                targets = None if chunk.targets is None else chunk.targets.new_empty((count, self.d_out))
            inputs[start : start + len(chunk.inputs)] = chunk.inputs
            if targets is not None:
                targets[start : start + len(chunk.inputs)] = chunk.targets
            start += len(chunk.inputs)
        return Chunk(inputs, targets)

    def rows(self, numbers: np.ndarray) -> Chunk:
        """Single SAE rows by number, in the given order."""
        order = np.argsort(numbers, kind="stable")
        of_chunk = np.searchsorted(self.bounds, numbers[order], side="right") - 1
        found = []
        for number in np.unique(of_chunk):
            chunk = self.chunk(int(number))
            inside = torch.from_numpy(numbers[order][of_chunk == number] - self.bounds[number])
            found.append(Chunk(*(None if part is None else part[inside] for part in chunk)))
        back = torch.from_numpy(np.argsort(order))
        inputs = torch.cat([part.inputs for part in found])[back]
        targets = None if found[0].targets is None else torch.cat([part.targets for part in found])[back]
        return Chunk(inputs, targets)


def in_memory(activations: np.ndarray | Tensor, targets: np.ndarray | Tensor | None = None) -> Selection:
    """All rows of an array (n, *inner, d), and of one with the targets."""
    inputs = _readable(activations, "activations")
    goals = None if targets is None else _readable(targets, "targets")
    if goals is not None and goals.shape[:-1] != inputs.shape[:-1]:
        raise UserError(f"targets: shape {goals.shape} does not go with activations of shape {inputs.shape}")
    return Selection([Piece(inputs, goals, np.arange(inputs.shape[0]), None, "activations")])


def _readable(values: np.ndarray | Tensor, name: str) -> InMemory:
    if isinstance(values, Tensor):
        values = values.float().cpu().numpy() if values.dtype is torch.bfloat16 else values.cpu().numpy()
    if values.ndim < 2 or values.dtype.kind != "f":
        raise UserError(f"{name}: (rows, width) floats needed, got {values.dtype} of shape {values.shape}")
    return InMemory(values)


def _flat(values: np.ndarray) -> Tensor:
    values = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    return torch.from_numpy(np.require(values, requirements="W"))


def _check_finite(rows: Tensor, piece: Piece, numbers: np.ndarray, positions: int) -> None:
    # The sum is finite if and only if all terms are: one pass, no mask in memory.
    if not torch.isfinite(rows.sum(dtype=torch.float64)):
        broken = int((~torch.isfinite(rows).all(1)).nonzero()[0, 0])
        raise UserError(
            f"{piece.name}: row {int(numbers[broken // positions])} holds NaN or infinity; drop or repair that row"
        )
