"""Settings of sources and captures: defaults and checks. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError

SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
PARTS = 1
DTYPE = "float16"
ALL, LAST = "all", "last"
"""Which tokens of a frame are captured, of those of the wanted kinds."""


def source_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A source's block of config.yaml with its defaults filled in; seed: of the whole config."""
    return {"parts": len(block.get("import", [])) or PARTS, "seed": seed, "split": SPLIT, **block}


def capture_settings(block: Mapping[str, Any]) -> dict[str, Any]:
    """A capture's block of config.yaml with its defaults filled in."""
    return {"dtype": DTYPE, "split": SPLIT, "tokens": {}, "frames": 0, "seed": 0, **block}


def shares(fractions: Mapping[str, float]) -> tuple[float, float, float]:
    """Train, validation and test shares as a tuple; UserError unless they are shares of one whole."""
    values = (fractions["train"], fractions["validation"], fractions["test"])
    if min(values) < 0 or abs(sum(values) - 1) > 1e-9:
        raise UserError(f"split fractions must be at least 0 and add up to 1, got {values}")
    return values


def part_names(count: int) -> list[str]:
    """part-0000, part-0001, ..."""
    return [f"part-{number:04d}" for number in range(count)]


def first_episode(part: str) -> int:
    """Number of the first episode of a file that does not number its own: each part has its own range of numbers."""
    return part_number(part) << 32


def part_number(name: str) -> int:
    """The number in a part's name; UserError if it is no such name."""
    match = re.fullmatch(r"part-([0-9]+)", name)
    if not match:
        raise UserError(f"part {name!r}: parts are called part-0000, part-0001, ...")
    return int(match[1])
