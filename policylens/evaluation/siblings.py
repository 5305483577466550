"""Which members of a sweep can be compared: those that differ in their seed alone, or in seed and width alone.

Free of heavy imports, since the workflow asks before anything is trained.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Kin(NamedTuple):
    """What tells a member from others. settings: all but latents and seed, as text. latents: width. seed: its seed."""

    settings: str
    latents: int
    seed: int


def kin(settings: Mapping[str, Any], seed: int) -> Kin:
    """A member's place among the others. settings: complete; seed: where the settings have none of their own."""
    others = {key: value for key, value in settings.items() if key not in ("latents", "seed")}
    own = settings.get("seed")
    return Kin(json.dumps(others, sort_keys=True), settings["latents"], seed if own is None else own)


def seed_groups(members: Mapping[str, Kin]) -> list[list[str]]:
    """Groups of two or more members that differ in nothing but their seed, each in the order of the seeds."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for name, member in members.items():
        found.setdefault((member.settings, member.latents), {}).setdefault(member.seed, name)
    return [[group[seed] for seed in sorted(group)] for group in found.values() if len(group) > 1]


def width_pairs(members: Mapping[str, Kin]) -> list[tuple[str, str]]:
    """Pairs (narrower, wider) that differ in nothing but their width, in the order of the widths."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for name, member in members.items():
        found.setdefault((member.settings, member.seed), {}).setdefault(member.latents, name)
    return [pair for group in found.values() for pair in itertools.combinations([group[m] for m in sorted(group)], 2)]
