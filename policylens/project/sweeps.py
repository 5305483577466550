"""From a sweep's block in the config to its members' settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.sae.settings import resolve
from policylens.stores.names import check_name

RESERVED = "evaluation"

SHORT = {"latents": "m", "sparsity": "l"}
"""Letters that stand for a setting in a grid member's name; others keep their own name."""


def members_of(sweep: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Member name -> complete settings: the named members, and every combination of every grid.

    In a grid each setting that is a list is varied; the member is called after the architecture and the varied
    settings, e.g. "standard_m512_l3" for latents 512 and sparsity 3. `settings` are defaults for all members.
    """
    shared = sweep.get("settings", {})
    found: dict[str, dict[str, Any]] = {}
    for name, own in _named(sweep, where):
        if name == RESERVED:
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
