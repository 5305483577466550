"""Blocks of correlations in config.yaml: defaults. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS = {"split": "test", "rows": 20_000, "shifts": 200}


def correlation_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    return {"seed": seed, **DEFAULTS, **block}
