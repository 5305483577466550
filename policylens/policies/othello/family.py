"""What the Othello family can do. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.policies.family import Family
from policylens.policies.othello.inputs import inputs
from policylens.policies.sites import Site

_COUNT = {"type": "integer", "minimum": 1}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}
_RANGE = {
    "type": "array",
    "prefixItems": [{"type": "integer", "minimum": 0, "maximum": 24}] * 2,
    "items": False,
    "minItems": 2,
}
_PLAY = {
    "simulations": {"type": "integer", "minimum": 0, "maximum": 65535},
    "opening_plies": _RANGE,
    "temperature": _NOT_NEGATIVE,
    "temperature_plies": {"type": "integer", "minimum": 0},
    "exploration": {"type": "number", "exclusiveMinimum": 0},
    "reduction": _NOT_NEGATIVE,
    "noise_weight": {"type": "number", "minimum": 0, "maximum": 1},
    "noise_shape": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "lanes": _COUNT,
}
AGENT = r"^(random|greedy|alphabeta-([1-9]|1[0-9]))$"

ROLLOUT_SETTINGS = {"type": "object", "additionalProperties": False, "properties": _PLAY}

TRAINING_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["iterations"],
    "properties": {
        **_PLAY,
        "simulations": {"type": "integer", "minimum": 1, "maximum": 65535},
        "iterations": _COUNT,
        "architecture": {
            "type": "object",
            "additionalProperties": False,
            "required": ["width", "blocks", "hidden"],
            "properties": {"width": _COUNT, "blocks": _COUNT, "hidden": _COUNT},
        },
        "snapshots": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "save_every": _COUNT,
        "games": _COUNT,
        "inference_dtype": {"enum": ["float32", "bfloat16"]},
        "replay": _COUNT,
        "reuse": {"type": "number", "exclusiveMinimum": 0},
        "search_share": {"type": "number", "minimum": 0, "maximum": 1},
        "batch": _COUNT,
        "learning_rate": {"type": "number", "exclusiveMinimum": 0},
        "warm_up": _COUNT,
        "weight_decay": _NOT_NEGATIVE,
        "clip": {"type": "number", "exclusiveMinimum": 0},
        "start": {"type": "string"},
    },
}

STRENGTH_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "simulations": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}},
        "games": {"type": "integer", "minimum": 2, "multipleOf": 2},
        "opening_plies": {"type": "integer", "minimum": 0, "maximum": 24},
        "opponents": {"type": "array", "items": {"type": "string", "pattern": AGENT}},
        "endgames": {"type": "integer", "minimum": 0},
        "endgame_empties": {"type": "integer", "minimum": 2, "maximum": 14},
    },
}

RETURNS_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "opening_plies": {"type": "integer", "minimum": 0, "maximum": 24},
        "opponents": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": AGENT}},
    },
}

LABELS = {
    "cells_mine": "36 squares: a disc of the side to move (bool)",
    "cells_theirs": "36 squares: a disc of the opponent (bool)",
    "cells_empty": "36 squares: no disc (bool)",
    "legal_moves": "36 squares: the side to move may place a disc there (bool)",
    "mobility_mine": "legal moves of the side to move (count)",
    "mobility_theirs": "legal moves the opponent would have if it were to move (count)",
    "corners_mine": "corners held by the side to move (count)",
    "corners_theirs": "corners held by the opponent (count)",
    "corners_takeable": "corners the side to move can take with its next disc (count)",
    "flips": "36 squares: discs turned by placing a disc there, 0 where illegal (count)",
    "stable_mine": "36 squares: a disc of the side to move proven never to be turned (bool)",
    "stable_theirs": "36 squares: a disc of the opponent proven never to be turned (bool)",
    "parity": "the number of empty squares is odd (bool)",
    "empties": "empty squares (count)",
    "outcome": "final disc difference of the episode for the side to move (discs)",
    "solver_value": "disc difference under perfect play for the side to move (discs); NaN where not solved",
    "solver_known": "solver_value is known: at most 10 squares are empty (bool)",
}


MEASURES = {
    "return": "mean of the two games of an opening: 1 for one won, 0 for a draw, -1 for one lost (-1 to 1)",
    "success": "games won (share of games)",
    "discs": "own discs less the opponent's at the end (discs)",
    "corners": "own corners less the opponent's at the end (corners)",
}


def check_architecture(architecture: Mapping[str, Any]) -> dict[str, int]:
    """The architecture {width, blocks, hidden} if it is one, else UserError."""
    expected = {"width", "blocks", "hidden"}
    if architecture.keys() != expected or not all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in architecture.values()
    ):
        raise UserError(
            f"an Othello architecture is width, blocks and hidden, all positive integers; got {dict(architecture)}"
        )
    return dict(architecture)


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """The network's sites, in the order of computation."""
    sizes = check_architecture(record["architecture"])
    width, hidden = sizes["width"], sizes["hidden"]
    found = [Site("embed", width, description="residual stream after the embedding of the board")]
    for number in range(1, sizes["blocks"] + 1):
        found += [
            Site(f"block_{number}_hidden", hidden, description=f"hidden units of block {number}, after the GELU"),
            Site(f"block_{number}", width, description=f"residual stream after block {number}"),
        ]
    return (*found, Site("final_norm", width, description="normalised residual stream that the heads read"))


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The arrays of a batch."""
    return ("cells", "legal")


FAMILY = Family(
    name="othello",
    capabilities=frozenset({"run", "rollout", "labels", "training", "strength", "returns", "play", "drawing"}),
    sites=sites,
    settings={
        "rollout": ROLLOUT_SETTINGS,
        "training": TRAINING_SETTINGS,
        "strength": STRENGTH_SETTINGS,
        "returns": RETURNS_SETTINGS,
    },
    labels=LABELS,
    measures=MEASURES,
    observations=observations,
    inputs=inputs,
    steps_per_episode=29.0,
)
