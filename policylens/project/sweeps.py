"""From a sweep's block in the config to its members' settings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.evaluation.siblings import kin, seed_groups, width_pairs
from policylens.sae.interchange.options import check_options
from policylens.sae.settings import resolve
from policylens.stores.names import check_name

RESERVED = ("evaluation", "imported", "training")
IMPORT = "import"

SHORT = {"latents": "m", "sparsity": "l", "row_norm": ""}
"""What stands for a setting in a grid member's name, before its value; others keep their own name."""


def rows_of(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Which rows a sweep is trained on, as `policylens.sae.training_rows` takes it, and how many are in memory."""
    found = {name: sweep[name] for name in ("where", "weights", "pool_mb") if name in sweep}
    return {"limit": sweep.get("rows", 0), **found}


def label_sets_of_rows(sweep: Mapping[str, Any]) -> list[str]:
    """Names of the label sets that a sweep's rows are chosen or weighted by."""
    return sorted({labelset for labelset, _ in labels_of_rows(sweep)})


def labels_of_rows(sweep: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label set, label) of everything that a sweep's rows are chosen or weighted by."""
    rows = sweep["rows"]
    arrays = [entry["array"] for entry in (*rows.get("where", ()), *([rows["weights"]] if "weights" in rows else ()))]
    return sorted({tuple(array.split("/", 1)) for array in arrays if "/" in array})


def trained_members(sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Member name -> settings of those members of a sweep that are trained here."""
    return {name: own for name, own in sweep["members"].items() if IMPORT not in own}


def imported_members(sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Member name -> `import` and options of those members of a sweep that come from other tools' files."""
    return {name: own for name, own in sweep["members"].items() if IMPORT in own}


def import_path(member: Mapping[str, Any], site: str) -> str:
    """Where an imported member comes from: {} in its path stands for the site."""
    return member[IMPORT].replace("{}", site)


def import_options(member: Mapping[str, Any]) -> dict[str, Any]:
    """What is said at the import of a member (`policylens.sae.interchange.options`)."""
    return {key: value for key, value in member.items() if key != IMPORT}


def something_to_compare(sweep: Mapping[str, Any]) -> bool:
    """Whether a sweep (with its members spelled out) has members to compare: seeds, widths, or labels to read."""
    relations = {name: kin(settings, sweep["seed"]) for name, settings in trained_members(sweep).items()}
    return bool("labels" in sweep["comparison"] or seed_groups(relations) or width_pairs(relations))


def learning_rates_to_compare(sweep: Mapping[str, Any]) -> bool:
    """Whether a sweep (with its members spelled out) has members that differ in their learning rate alone."""
    rates: dict[str, set[float]] = {}
    for settings in trained_members(sweep).values():
        rest = {key: value for key, value in settings.items() if key != "learning_rate"}
        rates.setdefault(json.dumps(rest, sort_keys=True), set()).add(settings["learning_rate"])
    return any(len(values) > 1 for values in rates.values())


def members_of(sweep: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Member name -> complete settings: the named members, and every combination of every grid.

    A member that is imported has the key `import` and its options instead of settings. In a grid each setting that is a
    list is varied; the member is called after the architecture and the varied settings, e.g. "standard_m512_l3" for
    latents 512 and sparsity 3. `settings` are defaults for all members that are trained.
    """
    shared = sweep.get("settings", {})
    found: dict[str, dict[str, Any]] = {}
    for name, own in _named(sweep, where):
        if name in RESERVED:
            raise UserError(f"{where}: the member name {name!r} is taken by the sweep's own folder; choose another")
        if name in found:
            raise UserError(f"{where}: the member {name!r} stands there twice")
        place = f"{where}.{name}"
        found[name] = _imported(own, sweep, place) if IMPORT in own else resolve({**shared, **own}, place)
    return found


def _imported(own: Mapping[str, Any], sweep: Mapping[str, Any], place: str) -> dict[str, Any]:
    path = own[IMPORT]
    if not isinstance(path, str):
        raise UserError(f"{place}: import: {path!r} is no path; give a file, a folder or hf://org/repo@revision/path")
    if len(sweep["sites"]) > 1 and "{}" not in path:
        raise UserError(
            f"{place}: import: the sweep has several sites; put {{}} into the path where the site's name goes"
        )
    return {IMPORT: path, **check_options(import_options(own), place)}


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
