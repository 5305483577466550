"""Moves as config.yaml has them. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from policylens.errors import UserError

PLAIN = ("zero", "mean", "resample")
SCALED = ("set", "add")
CLAMP = "clamp"
BOUNDS = ("low", "high")
KINDS = (*PLAIN, *SCALED, CLAMP)


def spelt_out(moves: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every single move of a list: a kind, {kind, strengths: [...]} or {kind: clamp, low, high}.

    Raises UserError for a kind that there is not, for numbers that do not belong to it, and for a move twice.
    """
    found = [single for move in moves for single in _singles({"kind": move} if isinstance(move, str) else dict(move))]
    for single in found:
        if found.count(single) > 1:
            words = ", ".join(f"{name}: {value}" for name, value in single.items())
            raise UserError(f"the move {{{words}}} stands there twice")
    return found


def _singles(move: dict[str, Any]) -> list[dict[str, Any]]:
    kind, rest = move["kind"], {name: value for name, value in move.items() if name != "kind"}
    if kind in SCALED:
        if rest.keys() != {"strengths"} or not rest["strengths"]:
            raise UserError(f"the move {kind!r} needs strengths alone, as {{kind: {kind}, strengths: [1, 2]}}")
        found = [{"kind": kind, "strength": float(strength)} for strength in rest["strengths"]]
    else:
        found = [{"kind": kind, **{name: float(value) for name, value in rest.items() if name in BOUNDS}}]
        if unknown := sorted(rest.keys() - set(BOUNDS)):
            raise UserError(f"the move {kind!r} takes no {', '.join(unknown)}")
    for single in found:
        check_move(**single)
    return found


def check_move(kind: str, strength: float | None = None, low: float | None = None, high: float | None = None) -> None:
    """UserError for a kind that there is not, and for numbers that do not belong to it or are none."""
    if kind not in KINDS:
        raise UserError(f"there is no move {kind!r}; there are: {', '.join(KINDS)}")
    if any(number is not None and not math.isfinite(number) for number in (strength, low, high)):
        raise UserError(f"the move {kind!r}: NaN and infinity are no strengths or bounds")
    if (kind in SCALED) != (strength is not None):
        raise UserError(f"the move {kind!r} {'needs a strength' if kind in SCALED else 'takes no strength'}")
    if kind != CLAMP and (low is not None or high is not None):
        raise UserError(f"the move {kind!r} takes no low or high")
    if kind == CLAMP and low is None and high is None:
        raise UserError("the move 'clamp' needs low, high or both, as {kind: clamp, low: 0, high: 1}")
    if kind == CLAMP and None not in (low, high) and low > high:
        raise UserError(f"the move 'clamp' has low {low:g} above high {high:g}")
