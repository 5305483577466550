"""What the settings of all training runs have in common: how they come from a config, and the learning rate's path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

from policylens.errors import UserError


class RunSettings:
    """Base of frozen dataclasses that hold the settings of a training run. The fields that a run itself looks at:

    iterations: length of the run, which the learning rate's schedule spans. snapshots: iterations after which a
    checkpoint is written; 0 (the untrained network) and the last are always among them. save_every: iterations between
    states to resume from. learning_rate: peak, after a linear warm-up of `warm_up` steps and before a cosine to a
    fiftieth. weight_decay: of AdamW. clip: largest gradient norm.
    """

    iterations: int
    architecture: Mapping[str, Any]
    snapshots: tuple[int, ...]
    save_every: int
    learning_rate: float
    warm_up: int
    weight_decay: float
    clip: float

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Settings from a config block; an unknown or missing key is a UserError."""
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise UserError(f"unknown training settings {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if "iterations" not in settings:
            raise UserError("training settings lack `iterations`, the length of the run")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Learning rate at a gradient step (counted from 0) when `progress` in [0, 1] of the run is done."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
