"""`effects.zarr`: what a study found, as labelled arrays. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.interventions.study import Found
from policylens.stores.groups import Groups
from policylens.stores.store import StoreWriter

STORE = "effects.zarr"
PER_UNIT = ("mean", "low", "high", "mean_size", "conditional")
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


class Effects(Groups):
    """A finished `effects.zarr`."""

    @property
    def modes(self) -> list[str]:
        """Names of the modes, in the order of the settings."""
        return list(self.attributes["modes"])

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome -> how many units it has."""
        return dict(self.attributes["outcomes"])
