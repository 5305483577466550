"""Files not laid out by rows: recorded as (step, episode, ...) or (episode, step, ...), or under other names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError

AXES = (["step", "episode"], ["episode", "step"])


def renamed(path: Path, arrays: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays by the names that config.yaml gives them; names: new name -> name in the file."""
    for name in names.values():
        if name not in arrays:
            raise UserError(f"{path}: has no array {name!r}; it has: {', '.join(sorted(arrays))}")
    kept = {name: values for name, values in arrays.items() if name not in names.values()}
    for name in names.keys() & kept.keys():
        raise UserError(f"{path}: has an array {name!r} of its own; choose another name for {names[name]!r}")
    return {**kept, **{new: arrays[old] for new, old in names.items()}}


def by_rows(
    path: Path, arrays: Mapping[str, np.ndarray], layout: Mapping[str, Any], first_episode: int
) -> dict[str, np.ndarray]:
    """The arrays with one leading axis of rows, episode after episode, and `episode` and `step` of every row.

    layout: `names` (new name -> name in the file), `axes` (what the two leading axes of every array are; rows if
    left out) and `done` (name of a boolean array: an episode ends with such a step and the next begins).
    Arrays with fewer than two axes (a time step's length, a return per episode) have no entry per step: left out.
    One of as many entries as there are rows is refused: it may be one that was flattened.
    first_episode: number of the file's first episode. Raises UserError naming the file and the array that differs.
    """
    arrays = renamed(path, arrays, layout.get("names", {}))
    if "axes" not in layout:
        return arrays
    if "episode" in arrays:
        raise UserError(f"{path}: has an array 'episode'; leave out it or `axes`")
    steps_first = layout["axes"] == AXES[0]
    sizes = _leading(path, arrays)
    arrays = {name: values for name, values in arrays.items() if values.ndim > 1}
    steps, episodes = sizes if steps_first else sizes[::-1]
    flat = {name: _flattened(values, steps_first) for name, values in arrays.items()}
    starts = np.arange(steps * episodes) % steps == 0
    if "done" in layout:
        starts[1:] |= _done(path, flat, layout["done"])[:-1]
    first = np.flatnonzero(starts)
    flat["episode"] = first_episode + np.cumsum(starts) - 1
    flat["step"] = np.arange(steps * episodes) - np.repeat(first, np.diff(np.r_[first, steps * episodes]))
    return flat


def _leading(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The two leading sizes that all arrays share, but for those of one axis or none that cannot be rows either."""
    shapes = {name: values.shape for name, values in arrays.items()}
    leading = {shape[:2] for shape in shapes.values() if len(shape) > 1}
    if len(leading) == 1:
        (found,) = leading
        if all(len(shape) != 1 or shape[0] != found[0] * found[1] for shape in shapes.values()):
            return found
    said = ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    raise UserError(f"{path}: all arrays must begin with the same two axes, as `axes` says; they have: {said}")


def _flattened(values: np.ndarray, steps_first: bool) -> np.ndarray:
    ordered = values.swapaxes(0, 1) if steps_first else values
    return np.ascontiguousarray(ordered).reshape(-1, *values.shape[2:])


def _done(path: Path, flat: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in flat:
        raise UserError(f"{path}: has no array {name!r} (`done`); it has: {', '.join(sorted(flat))}")
    done = flat[name].reshape(len(flat[name]), -1)
    if done.shape[1] != 1 or not np.isin(done, (0, 1)).all():
        raise UserError(f"{path}: array {name!r} (`done`) must hold one 0 or 1 per step")
    return done[:, 0].astype(bool)
