"""`correlations.zarr`: what was measured at a site, as labelled arrays. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.correlations.held_out import HeldOut
from policylens.correlations.sample import SIDES
from policylens.correlations.study import PREFIXES, Arrays
from policylens.errors import UserError
from policylens.stores.store import StoreWriter, read_root

STORE = "correlations.zarr"
SINGULAR = {"latents": "latent", "units": "unit"}


def write_correlations(path: Path, groups: Mapping[str, Arrays], attributes: Mapping[str, Any]) -> None:
    """Write groups of arrays: "inputs" and "held_out" with a row per input, "latents" with one per latent."""
    with StoreWriter(path, "correlations", attributes) as store:
        for name, arrays in groups.items():
            row = "latent" if name == "latents" else "input"
            group = store.group(name, (row,))
            for array, values in arrays.items():
                axes = (row, *_second_axis(array)) if values.ndim > 1 else (row,)
                group.column(array, values.dtype, values.shape[1:], axes, expected_rows=len(values))
            group.append(arrays)


def _second_axis(array: str) -> tuple[str]:
    if array.endswith("_null"):
        return ("quantile",)
    return ("unit",) if array.startswith(PREFIXES["units"]) else ("latent",)


def held_out_arrays(found: HeldOut) -> Arrays:
    """A row per input that was scored; `input`: its place among those that were measured."""
    arrays: Arrays = {"input": found.inputs}
    for side in SIDES:
        one, estimate = SINGULAR[side], found.test[side]
        arrays |= {one: found.chosen[side], f"{one}_validation": found.validation[side]}
        arrays |= {f"{one}_{end}": getattr(estimate, end) for end in ("value", "low", "high")}
    return arrays | {f"difference_{end}": getattr(found.difference, end) for end in ("value", "low", "high")}


class Correlations:
    """A finished `correlations.zarr`. attributes: of its root."""

    def __init__(self, path: Path) -> None:
        """path: the store. Raises UserError if it is not whole."""
        self.path = Path(path)
        self.attributes = read_root(self.path)
        self._names = [name.split("/") for name in self.attributes["arrays"]]

    def has(self, group: str) -> bool:
        """Whether there is such a group."""
        return any(own == group for own, _ in self._names)

    def group(self, name: str) -> Arrays:
        """All arrays of a group; UserError if there is none."""
        import zarr

        own = [array for group, array in self._names if group == name]
        if not own:
            raise UserError(f"{self.path}: has no group {name!r}; make it again")
        return {array: zarr.open_array(str(self.path / name / array), mode="r")[:] for array in own}
