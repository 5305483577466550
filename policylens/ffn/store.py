"""`activations.zarr`: how strongly every unit answers, one group per site. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policylens.ffn.probe import Strengths
from policylens.policies.sites import Site
from policylens.stores.groups import Groups
from policylens.stores.store import StoreWriter

STORE = "activations.zarr"
KIND = "ffn"


def write_strengths(
    path: Path, sites: Sequence[Site], found: Mapping[str, Strengths], attributes: Mapping[str, Any]
) -> None:
    """Write what was seen. attributes: of the root; `sites` are added: width, layer, rows and positions of each."""
    described = [
        {
            "name": site.name,
            "width": site.width,
            "layer": layer_of(site, place),
            "inner": [list(dimension) for dimension in site.inner],
            "rows": found[site.name].rows,
            "positions": found[site.name].positions,
        }
        for place, site in enumerate(sites)
    ]
    with StoreWriter(path, KIND, {**attributes, "sites": described}) as store:
        for site in sites:
            group = store.group(site.name, ("unit",))
            arrays = found[site.name].arrays()
            for name, values in arrays.items():
                axes = ("unit", "half") if values.ndim > 1 else ("unit",)
                group.column(name, values.dtype, values.shape[1:], axes, expected_rows=len(values))
            group.append(arrays)


def layer_of(site: Site, place: int) -> int:
    """The number of a site's layer; where it has none, its place among the sites looked at."""
    return place if site.layer is None else site.layer


def read_strengths(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], Mapping[str, Any]]:
    """Site -> arrays, and the root's attributes. Raises UserError if the store is not whole."""
    store = Groups(path)
    return {site["name"]: store.group(site["name"]) for site in store.attributes["sites"]}, store.attributes
