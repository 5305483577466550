"""What the family's networks share: normalised observations in, a distribution over actions and a value out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.franka.family import check_architecture
from policylens.policies.protocol import Batch, Carry, Policy

VARIANCE_FLOOR = 1e-5
"""Added to the variance of observations and returns before the square root, as rl_games does."""


class ActorCritic(Policy):
    """A policy whose batch holds `observations`, (n, observations), in the simulator's units.

    The head's mean is not clamped. The value is the value head's own, in units of normalised returns where there are
    such; `in_returns` turns it into returns.
    tensors: the statistics observation_mean, ..., return_variance, where the architecture says that there are such.
    """

    def __init__(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor], weight: Tensor) -> None:
        """weight: one of the network's, which tells device and precision."""
        self.record, self.tensors = record, tensors
        self.architecture = check_architecture(record["architecture"])
        self.device, self.dtype = weight.device, weight.dtype

    def begin(self, batch: Batch, state: Any) -> Carry:
        """Observations on the policy's device."""
        width = self.architecture["observations"]
        if "observations" not in batch:
            raise UserError(f"the batch has no array 'observations', it has {', '.join(sorted(batch)) or 'none'}")
        rows = torch.as_tensor(batch["observations"]).to(self.device, self.dtype)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise UserError(f"`observations` has shape {tuple(rows.shape)}, the policy takes (n, {width})")
        return {"observations": rows}

    def in_returns(self, value: Tensor) -> Tensor:
        """The value (n,) in units of returns (the discounted sum of rewards that training saw)."""
        if not self.architecture["returns"]:
            return value
        mean, variance = self.tensors["return_mean"], self.tensors["return_variance"]
        return value * (variance + VARIANCE_FLOOR).sqrt() + mean

    def normalised(self, rows: Tensor) -> Tensor:
        """Observations as the network takes them: by their running mean and variance, clamped."""
        if not self.architecture["normalised"]:
            return rows
        mean, variance = self.tensors["observation_mean"], self.tensors["observation_variance"]
        rows = (rows - mean) / (variance + VARIANCE_FLOOR).sqrt()
        return rows.clamp(-self.architecture["clip"], self.architecture["clip"])


def statistics_shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the statistics of such a network."""
    found: dict[str, tuple[int, ...]] = {}
    for name, size, there in (
        ("observation", architecture["observations"], architecture["normalised"]),
        ("return", 1, architecture["returns"]),
    ):
        if there:
            found[f"{name}_mean"] = found[f"{name}_variance"] = (size,)
    return found
