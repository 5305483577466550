"""Names and units of the numbers that a drawer-opening policy observes (layout.py has their order)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.policies.franka.layout import OBSERVATIONS
from policylens.policies.inputs import Input, unnamed

JOINTS = [f"joint {number}" for number in range(1, 8)] + ["finger 1", "finger 2"]

DRAWER = (
    *((f"position of {joint}", "range: -1 to 1") for joint in JOINTS),
    *((f"velocity of {joint}", "10 rad/s" if "joint" in joint else "10 m/s") for joint in JOINTS),
    ("hand to handle, x", "m"),
    ("hand to handle, y", "m"),
    ("hand to handle, z", "m"),
    ("position of drawer", "m"),
    ("velocity of drawer", "m/s"),
)


def inputs(record: Mapping[str, Any]) -> tuple[Input, ...]:
    """The observation's numbers; without names where there are not as many as in the drawer's observation."""
    count = record["architecture"]["observations"]
    if count != OBSERVATIONS:
        return unnamed("observations", (count,))
    return tuple(Input(name, unit, "observations", (place,)) for place, (name, unit) in enumerate(DRAWER))
