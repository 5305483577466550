"""A user's own activations and observations as captures and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policylens.capture.activations import declare, pieces, shard_bytes, to_storage
from policylens.capture.layout import by_rows
from policylens.capture.settings import shares
from policylens.capture.space import check_space
from policylens.capture.splits import given_splits
from policylens.errors import UserError
from policylens.policies.rollout import Rollout
from policylens.policies.sites import RowSpace, Site
from policylens.stores.foreign import read_arrays
from policylens.stores.splits import split_of_episodes
from policylens.stores.store import StoreWriter


def import_activations(
    path: Path,
    out: Path,
    sites: Sequence[str],
    *,
    dtype: str,
    fractions: Mapping[str, float],
    salt: str,
    each_row_is_an_episode: bool,
    first_episode: int,
    attributes: Mapping[str, Any],
    layout: Mapping[str, Any] | None = None,
) -> None:
    """Write one file of activations as one part of a capture.

    path: .npz, .pt (dict of tensors) or zarr group. Arrays named as in `sites`, each (rows, ..., width); integer
        arrays of one value per row (`episode`, `step`, `token`...) become coordinates, other arrays are left out.
        `episode` is needed, since splits and intervals go by episodes; where rows really are independent, say
        `each_row_is_an_episode`. A `split` of the file's own stands.
    first_episode: number of the first episode of a file that does not number its own.
    layout: where its arrays have other names or axes (:func:`policylens.capture.layout.by_rows`).
    Raises UserError naming the site and row of NaN or infinite values.
    """
    arrays = by_rows(path, read_arrays(path), layout or {}, first_episode)
    chosen = [_site(path, name, arrays) for name in sites]
    rows = len(arrays[sites[0]])
    _check_lengths(path, {name: arrays[name] for name in sites})
    if rows == 0:
        raise UserError(f"{path}: site {sites[0]!r} has no rows")
    coordinates = _coordinates(path, arrays, rows, each_row_is_an_episode, first_episode)
    if "split" in coordinates:
        coordinates["split"] = given_splits(str(path), coordinates["split"])
    else:
        coordinates["split"] = split_of_episodes(coordinates["episode"], shares(fractions), salt)
    check_space(out, sum(arrays[name].nbytes for name in sites))
    with StoreWriter(out, "capture", attributes, shard_bytes(len(chosen))) as store:
        group = store.group("step", tuple(coordinates))
        declare(group, chosen, dtype)
        for piece in pieces(rows, chosen):
            values = {name: torch.from_numpy(np.ascontiguousarray(arrays[name][piece])) for name in sites}
            try:
                stored = {name: to_storage(value, dtype, name, piece.start) for name, value in values.items()}
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            group.append({**stored, **{name: column[piece] for name, column in coordinates.items()}})


def _site(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> Site:
    if name not in arrays:
        raise UserError(f"{path}: has no array {name!r}; it has: {', '.join(sorted(arrays))}")
    array = arrays[name]
    if array.ndim < 2 or array.dtype.kind != "f":
        raise UserError(
            f"{path}: array {name!r} must be floating point with shape (rows, ..., width), "
            f"got {array.dtype} {array.shape}"
        )
    inner = tuple((f"axis{axis}", size) for axis, size in enumerate(array.shape[1:-1]))
    return Site(name, array.shape[-1], RowSpace("step"), inner)


def _coordinates(
    path: Path, arrays: Mapping[str, np.ndarray], rows: int, each_row_is_an_episode: bool, first_episode: int
) -> dict[str, np.ndarray]:
    found = {
        name: values.astype(np.int64)
        for name, values in arrays.items()
        if values.ndim == 1 and values.dtype.kind in "iu"
    }
    for name, values in found.items():
        if len(values) != rows:
            raise UserError(f"{path}: array {name!r} has {len(values)} rows, the activations have {rows}")
    if each_row_is_an_episode and "episode" in found:
        raise UserError(f"{path}: has an array 'episode'; leave out it or each_row_is_an_episode")
    if "episode" not in found:
        if not each_row_is_an_episode:
            raise UserError(
                f"{path}: has no integer array 'episode'; add one (splits and intervals go by episodes), or set "
                "each_row_is_an_episode: true where rows are independent"
            )
        found["episode"] = np.arange(first_episode, first_episode + rows, dtype=np.int64)
    if "step" not in found:
        found["step"] = _steps(path, found["episode"])
    return found


def _steps(path: Path, episodes: np.ndarray) -> np.ndarray:
    """0, 1, 2... within each episode; UserError if the rows of one do not stand together."""
    starts = np.flatnonzero(np.r_[True, episodes[1:] != episodes[:-1]])
    if len(np.unique(episodes[starts])) < len(starts):
        raise UserError(f"{path}: rows of an episode must stand together, in order; sort them by episode and step")
    return np.arange(len(episodes)) - np.repeat(starts, np.diff(np.r_[starts, len(episodes)]))


def _check_lengths(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    lengths = {name: len(values) if values.ndim else 0 for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{path}: all arrays need one entry per row, but their lengths differ ({counts})")


def import_rollout(path: Path, layout: Mapping[str, Any] | None = None, first_episode: int = 0) -> Rollout:
    """Observations from a file as a rollout: every array has one entry per row; `episode` is needed.

    layout: where the file's arrays have other names or axes (:func:`policylens.capture.layout.by_rows`).
    """
    arrays = by_rows(path, read_arrays(path), layout or {}, first_episode)
    if "episode" not in arrays or arrays["episode"].ndim != 1 or arrays["episode"].dtype.kind not in "iu":
        raise UserError(
            f"{path}: has no integer array 'episode' that says which rows belong together; add one, "
            "or say with `layout` which axes are steps and episodes"
        )
    _check_lengths(path, arrays)
    if len(arrays["episode"]) == 0:
        raise UserError(f"{path}: is empty: no episode has a step; leave the file out")
    steps = {**arrays, "episode": arrays["episode"].astype(np.int64)}
    inferred = _steps(path, steps["episode"])
    steps["step"] = np.asarray(arrays.get("step", inferred), dtype=np.int32)
    numbers, lengths = np.unique(steps["episode"], return_counts=True)
    return Rollout(steps, {"episode": numbers, "length": lengths.astype(np.int32)}, str(path))
