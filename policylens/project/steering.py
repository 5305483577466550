"""Blocks of steering in config.yaml: their defaults. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS: dict[str, Any] = {"saes": {}, "latents": 20, "rows": 20_000, "settings": {}, "confirm": 3}
EPISODES = {"choose": 40, "confirm": 200}
CONTROLS = {"directions": 200, "episodes": 10}


def steering_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    return {
        "seed": seed,
        **DEFAULTS,
        **block,
        "episodes": {**EPISODES, **block.get("episodes", {})},
        "controls": {**CONTROLS, **block.get("controls", {})},
    }


def steered_sites(block: Mapping[str, Any]) -> list[str]:
    """The sites that are steered, in the order in which the block names them."""
    own = [one["site"] for kind in ("directions", "units") for one in block.get(kind, {}).values()]
    clusters = [site for one in block.get("clusters", {}).values() for site in one["sites"]]
    return list(dict.fromkeys([*block["saes"], *own, *clusters]))


def steering_labels(block: Mapping[str, Any]) -> list[str]:
    """The label sets that directions are made from."""
    return sorted({own["labels"] for own in block.get("directions", {}).values() if "labels" in own})
