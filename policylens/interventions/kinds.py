"""Kinds of interventions, and which need a strength. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from policylens.errors import UserError

Numbers = TypeVar("Numbers")
"""Arrays of NumPy, or tensors."""

WITH_STRENGTH = ("set", "add")
KINDS = ("zero", "mean", "resample", *WITH_STRENGTH)


def check_kind(kind: str, strength: float | None) -> None:
    """UserError for a kind that there is not, or a strength where none belongs."""
    if kind not in KINDS:
        raise UserError(f"there is no mode {kind!r} of intervention; there are: {', '.join(KINDS)}")
    if (kind in WITH_STRENGTH) != (strength is not None):
        needs = "needs a strength, as {kind: set, strength: 1}" if kind in WITH_STRENGTH else "takes no strength"
        raise UserError(f"the mode {kind!r} of intervention {needs}")


def check_mode(block: str | Mapping[str, Any]) -> None:
    """UserError unless this is a mode as config.yaml has it: a kind, or {kind, strength, keep_error}."""
    own = {"kind": block} if isinstance(block, str) else block
    check_kind(own["kind"], own.get("strength"))


def wanted(
    kind: str,
    values: Numbers,
    *,
    mean: Numbers,
    unit: Numbers,
    donated: Numbers,
    origin: Numbers | float = 0.0,
    strength: float | None = None,
) -> Numbers:
    """What coordinates are to become, in the shape of `values`; arrays of NumPy or tensors, all of them.

    values: as measured. mean: over reference rows. origin, unit: what strengths are counted from and in. donated: those
    of another row. zero: 0. set: origin + strength units. add: as they are, and strength units more.
    """
    if kind == "zero":
        return values * 0
    if kind == "mean":
        return values * 0 + mean
    if kind == "resample":
        return donated
    return (values if kind == "add" else values * 0 + origin) + strength * unit
