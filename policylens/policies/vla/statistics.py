"""Statistics by which a checkpoint's states and actions are normalised, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.stores.files import read_json
from policylens.stores.headers import read_numbers

DEFAULT_MODES = {"pi0": "mean_std", "pi05": "quantiles"}
KEYS = {"state": ("state", "observation.state"), "action": ("action", "actions")}
"""Ours -> how files call it."""


def statistics_of(path: Path, options: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """{"state": {"mean": [...], "std": ..., "q01": ..., ...}, "action": ...} of a checkpoint folder.

    Looked for in: the option `statistics` (openpi's norm_stats.json, or a dataset's meta/stats.json), the folder's
    policy_preprocessor_*normalizer*.safetensors (LeRobot), assets/**/norm_stats.json (openpi).
    Raises UserError that says so if they are nowhere.
    """
    places = [Path(options["statistics"])] if "statistics" in options else []
    places += sorted(path.glob("policy_preprocessor*normalizer*.safetensors"))
    places += sorted(path.glob("**/norm_stats.json"))
    for place in places:
        found = _from_tensors(place) if place.suffix == ".safetensors" else _from_json(place)
        if found.keys() == KEYS.keys():
            return found
    raise UserError(
        f"{path}: no statistics to normalise states and actions by; give `options: {{statistics: <file>}}`, openpi's "
        "norm_stats.json or the meta/stats.json of the dataset that it was trained on"
    )


def _from_tensors(place: Path) -> dict[str, dict[str, list[float]]]:
    """LeRobot's: tensors called "<key>.<statistic>"."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, values in read_numbers(place).items():
        key, _, statistic = name.rpartition(".")
        own = next((own for own, keys in KEYS.items() if key in keys), None)
        if own is not None:
            found.setdefault(own, {})[statistic] = values
    return found


def _from_json(place: Path) -> dict[str, dict[str, list[float]]]:
    """openpi's {"norm_stats": {"state": ..., "actions": ...}}, and LeRobot's datasets' {"observation.state": ...}."""
    content = read_json(place)
    content = content.get("norm_stats", content) if isinstance(content, dict) else {}
    found = {}
    for own, keys in KEYS.items():
        entry = next((content[key] for key in keys if isinstance(content.get(key), dict)), None)
        if entry is not None:
            found[own] = {name: value for name, value in entry.items() if isinstance(value, list)}
    return found
