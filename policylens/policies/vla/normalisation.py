"""States and actions between their own units and the network's, as LeRobot's processors do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8


class Normalisation:
    """An affine map per number: normalised = (x - origin) / unit, and back.

    how: {"mode": "quantiles", "q01": [...], "q99": [...]}, {"mode": "mean_std", "mean", "std"}, {"mode": "min_max",
    "min", "max"} or {"mode": "identity"} (lerobot/processor/normalize_processor.py). Quantiles and bounds go to -1, 1.
    """

    def __init__(self, how: Mapping[str, Any], size: int) -> None:
        def of(name: str) -> Tensor:
            return torch.tensor(how[name], dtype=torch.float32)

        mode = how["mode"]
        self.origin, self.divisor = torch.zeros(size), torch.ones(size)
        self.multiplier = self.divisor
        if mode == "mean_std":
            self.origin, self.multiplier = of("mean"), of("std")
            self.divisor = self.multiplier + EPSILON
        elif mode != "identity":
            low, high = (of(name) for name in (("q01", "q99") if mode == "quantiles" else ("min", "max")))
            span = torch.where(high == low, EPSILON, high - low)
            self.origin, self.divisor, self.multiplier = low + span / 2, span / 2, span / 2

    def __call__(self, x: Tensor) -> Tensor:
        """(..., size) in own units -> normalised."""
        return (x - self.origin.to(x)) / self.divisor.to(x)

    def back(self, x: Tensor) -> Tensor:
        """(..., size) normalised -> in own units."""
        return x * self.multiplier.to(x) + self.origin.to(x)
