"""Kinds of interventions, and which need a strength. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError

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
