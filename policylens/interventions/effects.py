"""`effects.zarr`: what a study found, as labelled arrays. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.interventions.shelf import Arrays
from policylens.interventions.study import Found
from policylens.stores.store import StoreWriter, read_root

STORE = "effects.zarr"
PER_UNIT = ("mean", "low", "high", "mean_size")
"""Suffixes of the arrays that have an axis of the outcome's units."""


def write_effects(path: Path, found: Found, attributes: Mapping[str, Any]) -> None:
    """Write the groups of a study; those whose name ends in `_rows` have a row per pair, all others one per latent."""
    with StoreWriter(path, "effects", attributes) as store:
        for group_name, arrays in found.groups.items():
            by_pair = group_name.endswith("_rows")
            group = store.group(group_name, ("latent",))
            for name, values in arrays.items():
                axes = _dimensions(group_name, name, values, by_pair)
                group.column(name, values.dtype, values.shape[1:], axes, expected_rows=len(values))
            group.append(arrays)


def _dimensions(group: str, name: str, values: np.ndarray, by_pair: bool) -> tuple[str, ...]:
    """Names of an array's axes: arrays of one outcome share the name of its units."""
    row = "pair" if by_pair else "latent"
    if values.ndim == 1:
        return (row,)
    if group.endswith("_controls"):
        return (row, "control")
    if group.endswith("_phases"):
        return (row, "phase")
    if name.endswith("_raised"):
        return (row, "fold", f"{name.removesuffix('_raised')}_unit")
    outcome = name
    for suffix in PER_UNIT:
        outcome = outcome.removesuffix(f"_{suffix}")
    return (row, f"{outcome}_unit")


class Effects:
    """A finished `effects.zarr`. attributes: of its root."""

    def __init__(self, path: Path) -> None:
        """path: the store. Raises UserError if it is not whole."""
        self.path = Path(path)
        self.attributes = read_root(self.path)
        self._names = [name.split("/") for name in self.attributes["arrays"]]

    @property
    def modes(self) -> list[str]:
        """Names of the modes, in the order of the settings."""
        return list(self.attributes["modes"])

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome -> how many units it has."""
        return dict(self.attributes["outcomes"])

    def group(self, name: str) -> Arrays:
        """All arrays of a group; UserError if there is none."""
        import zarr

        own = [array for group, array in self._names if group == name]
        if not own:
            known = ", ".join(sorted({group for group, _ in self._names}))
            raise UserError(f"{self.path}: has no group {name!r}; it has: {known}")
        return {array: zarr.open_array(str(self.path / name / array), mode="r")[:] for array in own}

    def has(self, name: str) -> bool:
        """Whether there is such a group."""
        return any(group == name for group, _ in self._names)
