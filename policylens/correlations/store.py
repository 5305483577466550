"""`correlations.zarr`: what was measured at a site, as labelled arrays. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.correlations.held_out import HeldOut
from policylens.correlations.sample import SIDES
from policylens.correlations.study import PREFIXES, Arrays
from policylens.stores.store import StoreWriter

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
