"""Slices and chunks of other tools: `.pt` files that hold one tensor of activations, (rows, d) or (rows, 1, d)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from policylens.errors import UserError
from policylens.slices.concept_map import ConceptMap
from policylens.stores.foreign import load_torch

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Activations (n, d) float32, and the episode and step of each row, (n,) int64; -1 where they are not known."""


def read_activations_file(path: Path) -> np.ndarray:
    """(n, d) float32 of a `.pt` file; UserError unless it holds one finite tensor (rows, d) or (rows, 1, d)."""
    import torch

    content = load_torch(path)
    if isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor) and value.ndim > 1}
        if len(tensors) != 1:
            raise UserError(
                f"{path}: holds {len(tensors)} arrays of rows; save the activations alone, one tensor a file"
            )
        content = next(iter(tensors.values()))
    if not isinstance(content, torch.Tensor) or not content.is_floating_point():
        raise UserError(f"{path}: holds no tensor of activations; save one with torch.save")
    if content.ndim == 3 and content.shape[1] == 1:
        content = content.squeeze(1)
    if content.ndim != 2 or len(content) == 0:
        raise UserError(f"{path}: the tensor has shape {tuple(content.shape)}; it must be (rows, d) or (rows, 1, d)")
    values = content.detach().float()
    if not bool(values.isfinite().all()):
        raise UserError(f"{path}: holds NaN or infinity; capture the activations again")
    return values.numpy()


def read_all(paths: Sequence[Path]) -> np.ndarray:
    """Rows of several files, one after the other; UserError where their widths differ."""
    return np.concatenate([piece for _, piece in _pieces(paths)])


def _pieces(paths: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    width = None
    for path in paths:
        piece = read_activations_file(path)
        if width not in (None, piece.shape[1]):
            raise UserError(
                f"{path}: its rows are {piece.shape[1]} wide, those of {paths[0]} {width}; give files of one site"
            )
        width = piece.shape[1]
        yield path, piece


def from_files(files: Mapping[str, Sequence[str]]) -> dict[str, Rows]:
    """Concept -> its rows, from files per concept. Which episodes they are of is not in such files."""
    found, width = {}, None
    for text, paths in files.items():
        values = read_all([Path(path) for path in paths])
        if width not in (None, values.shape[1]):
            raise UserError(
                f"{paths[0]}: its rows are {values.shape[1]} wide, the other concepts' {width}; give files of one site"
            )
        width = values.shape[1]
        unknown = np.full(len(values), -1, np.int64)
        found[text] = (values, unknown, unknown)
    return found


def from_chunks(chunks: Sequence[Path], frames: int, concepts: ConceptMap) -> dict[str, Rows]:
    """Concept -> its rows, from chunks that hold one row per frame of the dataset, in order (decision tokens).

    frames: of the whole dataset. Raises UserError where the chunks have another number of rows: instruction tokens are
    several per frame, and nothing in such files says of which.
    """
    wanted = {text: _frames_of(concepts, text, frames) for text in concepts.concepts}
    kept: dict[str, list[np.ndarray]] = {text: [] for text in wanted}
    total = 0
    for _, piece in _pieces(chunks):
        for text, (numbers, _, _) in wanted.items():
            low, high = np.searchsorted(numbers, [total, total + len(piece)])
            kept[text].append(piece[numbers[low:high] - total])
        total += len(piece)
    if total != frames:
        raise UserError(
            f"{chunks[0]}: the chunks have {total} rows, the dataset {frames} frames; chunks are taken with one row "
            "per frame (decision tokens), others cannot be told apart: capture them here"
        )
    return {text: (np.concatenate(kept[text]), episodes, steps) for text, (_, episodes, steps) in wanted.items()}


def _frames_of(concepts: ConceptMap, text: str, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of the dataset (ascending), and the episode and step of each."""
    parts = []
    for segment in concepts.concepts[text]:
        if segment.start is None or segment.end is None:
            raise UserError(f"{concepts.path}: {text!r}: a segment has no start_index and end_index, which chunks need")
        if segment.end >= frames:
            raise UserError(
                f"{concepts.path}: {text!r}: a segment ends at index {segment.end}, the dataset has {frames} frames; "
                "give the concept map of this dataset"
            )
        steps = np.arange(segment.first, segment.last + 1)
        parts.append(np.stack([steps - segment.first + segment.start, np.full(len(steps), segment.episode), steps]))
    numbers, places = np.unique(np.concatenate(parts, axis=1)[0], return_index=True)
    _, episodes, steps = np.concatenate(parts, axis=1)[:, places]
    return numbers, episodes, steps
