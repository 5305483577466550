"""`runs.zarr`: what every run of a steering study came to, episode by episode. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.steering.study import Found
from policylens.stores.groups import Groups
from policylens.stores.store import StoreWriter

STORE = "runs.zarr"
AXES = {
    "choosing": ("run", "task", "episode"),
    "confirming": ("run", "task", "episode"),
    "controls": ("chosen", "kind", "control", "task", "episode"),
}


def write_runs(path: Path, found: Found, attributes: Mapping[str, Any]) -> None:
    """Write all runs. attributes: of the root; tasks, chosen and kinds are added."""
    groups = {"choosing": found.choosing, "confirming": found.confirming, "controls": found.controls}
    own = {"tasks": found.tasks, "chosen": found.chosen, "kinds": list(found.kinds)}
    with StoreWriter(path, "steering", {**attributes, **own}) as store:
        for name, arrays in groups.items():
            if arrays:
                group = store.group(name)
                for measure, values in arrays.items():
                    group.column(measure, values.dtype, values.shape[1:], AXES[name], expected_rows=len(values))
                group.append(arrays)


def read_runs(path: Path) -> tuple[Found, Mapping[str, Any]]:
    """The runs, and the root's attributes. Raises UserError if the store is not whole."""
    store = Groups(path)
    attributes = store.attributes
    groups = {name: store.group(name) if store.has(name) else {} for name in AXES}
    kinds = attributes["kinds"] if groups["controls"] else []
    return Found(tasks=attributes["tasks"], chosen=attributes["chosen"], kinds=kinds, **groups), attributes
