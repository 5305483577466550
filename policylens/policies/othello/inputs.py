"""Names of what an Othello policy observes: the squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.policies.inputs import Input
from policylens.policies.othello.squares import SQUARES, square_name


def inputs(record: Mapping[str, Any]) -> tuple[Input, ...]:
    """Every square: 1 a disc of the side to move, -1 one of the opponent, 0 empty."""
    return tuple(Input(square_name(square), "1", "cells", (square,)) for square in range(SQUARES))
