"""Blocks of circuits in config.yaml: defaults, and which rows they are chosen and scored on. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS = {"rows": 2048}
OWN = ("output", "sizes", "mode", "keep_error", "random", "inputs", "graph")
"""What the tracing itself is told; all else says on what it is done."""


def circuit_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    return {"seed": seed, **DEFAULTS, **block}


def traced_settings(block: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a block that `policylens.circuits.tracing.settings_of` takes."""
    return {key: block[key] for key in OWN if key in block}


def splits_of(intervention: Mapping[str, Any]) -> tuple[str, str]:
    """The splits that a circuit is chosen and scored on: the same where the intervention is on all rows.

    That is so for SAEs of other tools that were trained on all of them, where no rows are held out.
    """
    return ("all", "all") if intervention["split"] == "all" else ("validation", "test")
