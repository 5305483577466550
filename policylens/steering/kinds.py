"""Moves as config.yaml has them. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policylens.errors import UserError

PLAIN = ("zero", "mean", "resample")
SCALED = ("set", "add")
CLAMP = "clamp"
KINDS = (*PLAIN, *SCALED, CLAMP)


def spelt_out(moves: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every single move of a list: a kind, {kind, strengths: [...]} or {kind: clamp, low, high}.

    Raises UserError for a kind that there is not, for numbers that do not belong to it, and for a move twice.
    """
    found = [single for move in moves for single in _singles({"kind": move} if isinstance(move, str) else dict(move))]
    for single in found:
        if found.count(single) > 1:
            raise UserError(f"the move {single} stands there twice")
    return found


def _singles(move: dict[str, Any]) -> list[dict[str, Any]]:
    kind, rest = move["kind"], move.keys() - {"kind"}
    if kind not in KINDS:
        raise UserError(f"there is no move {kind!r}; there are: {', '.join(KINDS)}")
    if kind in SCALED:
        if rest != {"strengths"} or not move["strengths"]:
            raise UserError(f"the move {kind!r} needs strengths alone, as {{kind: {kind}, strengths: [1, 2]}}")
        return [{"kind": kind, "strength": float(strength)} for strength in move["strengths"]]
    if kind == CLAMP:
        if not rest or rest - {"low", "high"}:
            raise UserError("the move 'clamp' needs low, high or both, as {kind: clamp, low: 0, high: 1}")
        if move.get("low", -float("inf")) > move.get("high", float("inf")):
            raise UserError(f"the move 'clamp' has low {move['low']} above high {move['high']}")
        return [{"kind": kind, **{name: float(move[name]) for name in ("low", "high") if name in move}}]
    if rest:
        raise UserError(f"the move {kind!r} takes no {', '.join(sorted(rest))}")
    return [{"kind": kind}]
