"""From a capture to rows that an SAE takes: float32, one row per position, with the episode of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policylens.errors import UserError
from policylens.stores.splits import SPLITS
from policylens.stores.tables import Column, Table

ALL = len(SPLITS)
AT_ONCE = 1 << 24
"""Numbers read at once for a mean."""


class Rows(NamedTuple):
    """Rows of a capture. numbers: (r,) in the capture, ascending. episodes: (r,) the episode of each."""

    numbers: np.ndarray
    episodes: np.ndarray


def rows_of_split(capture: Table, split: str, limit: int = 0, seed: int = 0) -> Rows:
    """The rows of a split ("train", "validation", "test", or "all" rows), or `limit` of them drawn by seed (0: all).

    Training takes single rows. Elsewhere rows stand for their episodes, so that whole episodes are drawn, as many
    as fit in the limit, at least two: one says nothing about how results vary.
    """
    code = ALL if split == "all" else SPLITS.index(split)
    rows = np.arange(capture.n_rows) if code == ALL else np.flatnonzero(capture.coordinate("split") == code)
    if len(rows) == 0:
        raise UserError(f"{capture.folder}: no row is in the {split!r} split; record more episodes")
    episodes = capture.coordinate("episode")[rows]
    if split != "train" and (episodes == episodes[0]).all():
        raise UserError(f"{capture.folder}: only one episode is in the {split!r} split; record more episodes")
    if limit and limit < len(rows):
        rng = np.random.default_rng([seed, code])
        kept = _some_rows(len(rows), limit, rng) if split == "train" else _some_episodes(episodes, limit, rng)
        rows, episodes = rows[kept], episodes[kept]
    return Rows(rows, episodes)


def whole_episodes(capture: Table, split: str, limit: int, seed: int) -> Rows:
    """Rows of a split ("train", "validation", "test", "all") in whole episodes, at most `limit` rows (0: all).

    They stand episode by episode, ascending, and in the capture's order within each.
    """
    found = rows_of_split(capture, split, 0 if split == "train" else limit, seed)
    rows = np.argsort(found.episodes, kind="stable")
    if split == "train" and limit and limit < len(rows):
        kept = _some_episodes(found.episodes, limit, np.random.default_rng([seed, SPLITS.index(split)]))
        rows = kept[np.argsort(found.episodes[kept], kind="stable")]
    return Rows(found.numbers[rows], found.episodes[rows])


def _some_rows(count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(count, limit, replace=False))


def _some_episodes(episodes: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Places of the rows of whole episodes, drawn at random: as many as fit in `limit` rows, at least two."""
    _, of_row, lengths = np.unique(episodes, return_inverse=True, return_counts=True)
    order = rng.permutation(len(lengths))
    fitting = max(2, int(np.searchsorted(np.cumsum(lengths[order]), limit, side="right")))
    return np.flatnonzero(np.isin(of_row, order[:fitting]))


def read_activations(column: Column, rows: np.ndarray | slice) -> np.ndarray:
    """Activations at some rows as float32, (r, *inner, d)."""
    values = column.read(rows)
    if values.dtype.kind == "u":
        # bfloat16 is stored as its bits, which are the upper half of the float32 of the same value.
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def training_mean(capture: Table, site: str) -> np.ndarray:
    """(d,) float32: mean over the rows (and positions) of the split `train`; over all rows where that has none.

    Of all of them, whatever an SAE was trained on: what is compared with a mean is compared with the same one.
    """
    column, splits = capture.array(site), capture.coordinate("split")
    wanted = splits == SPLITS.index("train")
    wanted = wanted if wanted.any() else np.ones(len(splits), dtype=bool)
    total, step = np.zeros(column.shape[-1]), max(1, AT_ONCE // int(np.prod(column.shape[1:])))
    for start in range(0, len(wanted), step):
        piece = slice(start, min(start + step, len(wanted)))
        total += flattened(read_activations(column, piece)[wanted[piece]]).sum(0, dtype=np.float64)
    return (total / wanted.sum() / int(np.prod(column.shape[1:-1]))).astype(np.float32)


def flattened(activations: np.ndarray) -> np.ndarray:
    """(r, *inner, d) as the (r * positions, d) rows of an SAE: every position is a row."""
    return np.ascontiguousarray(activations).reshape(-1, activations.shape[-1])
