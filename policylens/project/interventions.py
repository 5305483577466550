"""Blocks of interventions in config.yaml: defaults, and the SAEs that they name. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS = {"split": "test", "rows": 4096}
OWN = ("modes", "features", "controls", "controlled", "keep_rows")
"""What the measurement itself is told; all else says on what it is done."""


def intervention_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    return {"seed": seed, **DEFAULTS, **block}


def own_settings(block: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a block that `policylens.interventions.study.settings_of` takes."""
    return {key: block[key] for key in OWN if key in block}


def phase_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """How a block's phases are cut: all that `phase` says but the label set."""
    return {key: value for key, value in block["phase"].items() if key != "labels"}


def sweep_and_member(address: str) -> tuple[str, str]:
    """ "demo/topk_k32" -> ("demo", "topk_k32")."""
    sweep, _, member = address.partition("/")
    return sweep, member
