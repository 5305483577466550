"""From a sweep's block in the config to its members' settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.evaluation.siblings import kin, seed_groups, width_pairs
from policylens.sae.settings import resolve
from policylens.stores.names import check_name

RESERVED = ("evaluation", "training")

SHORT = {"latents": "m", "sparsity": "l"}
"""Letters that stand for a setting in a grid member's name; others keep their own name."""


def rows_of(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Which rows a sweep is trained on, as `policylens.sae.training_rows` takes it, and how many are in memory."""
    found = {name: sweep[name] for name in ("where", "weights", "pool_mb") if name in sweep}
    return {"limit": sweep.get("rows", 0), **found}


def label_sets_of_rows(sweep: Mapping[str, Any]) -> list[str]:
    """Names of the label sets that a sweep's rows are chosen or weighted by."""
    rows = sweep["rows"]
    arrays = [entry["array"] for entry in (*rows.get("where", ()), *([rows["weights"]] if "weights" in rows else ()))]
    return sorted({array.split("/")[0] for array in arrays if "/" in array})


def something_to_compare(sweep: Mapping[str, Any]) -> bool:
    """Whether a sweep (with its members spelled out) has members to compare: seeds, widths, or labels to read."""
    relations = {name: kin(settings, sweep["seed"]) for name, settings in sweep["members"].items()}
    return bool("labels" in sweep["comparison"] or seed_groups(relations) or width_pairs(relations))


def members_of(sweep: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Member name -> complete settings: the named members, and every combination of every grid.

    In a grid each setting that is a list is varied; the member is called after the architecture and the varied
    settings, e.g. "standard_m512_l3" for latents 512 and sparsity 3. `settings` are defaults for all members.
    """
    shared = sweep.get("settings", {})
    found: dict[str, dict[str, Any]] = {}
    for name, own in _named(sweep, where):
        if name in RESERVED:
            raise UserError(f"{where}: the member name {name!r} is taken by the sweep's own folder; choose another")
        if name in found:
            raise UserError(f"{where}: the member {name!r} stands there twice")
        found[name] = resolve({**shared, **own}, f"{where}.{name}")
    return found


def _named(sweep: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    named = list(sweep.get("members", {}).items())
    for grid in sweep.get("grid", []):
        named += _combinations({**sweep.get("settings", {}), **grid}, where)
    return named


def _combinations(grid: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    varied = {key: values for key, values in grid.items() if isinstance(values, list)}
    if "architecture" not in grid or "architecture" in varied:
        raise UserError(f"{where}: a grid needs one architecture")
    for key, values in varied.items():
        if not values:
            raise UserError(f"{where}: the grid's {key} is an empty list; give it values or leave it out")
    result = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        name = "_".join([grid["architecture"], *(_short(key, value) for key, value in chosen.items())])
        result.append((check_name(name, f"{where}: the grid member"), {**grid, **chosen}))
    return result


def _short(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return SHORT.get(key, key.replace("_", "-")) + text.replace(".", "p").replace("+", "")
