"""Networks before training: architectures with their defaults filled in, and random weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.franka import mlp, transformer
from policylens.policies.franka.family import check_architecture
from policylens.policies.franka.layout import ACTIONS, OBSERVATIONS

SHARED = {
    "observations": OBSERVATIONS,
    "actions": ACTIONS,
    "head": "gaussian",
    "log_std": "constant",
    "clip": 5.0,
    "normalised": True,
    "returns": True,
}

TOKENS = [[0], [1], [2], [3], [4], [5], [6], [7, 8], list(range(9, 16)), [16, 17], [18, 19, 20], [21, 22]]
"""The arm's joints one by one, the fingers, velocities of both, the vector to the handle, the drawer."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [256, 128, 64], "critic": [], "activation": "elu"},
    "transformer": {"tokens": TOKENS, "width": 64, "blocks": 4, "heads": 4, "hidden": 256},
}

LOG_STD = -1.0
POSITION_SPREAD = 0.02


def full_architecture(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture that a training's `architecture` block chooses: `kind`, and sizes that differ from DEFAULTS."""
    defaults = DEFAULTS[chosen["kind"]]
    if unknown := sorted(chosen.keys() - defaults.keys() - {"kind"}):
        raise UserError(
            f"the architecture {chosen['kind']!r} has no {', '.join(unknown)}; it has {', '.join(defaults)}"
        )
    return check_architecture({**SHARED, **defaults, **chosen})


def initial_tensors(architecture: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """Random float32 weights, the same for the same seed; statistics that change nothing.

    Linear maps as torch starts them (uniform within 1 / sqrt(inputs)), norms as identities.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = (transformer if architecture["kind"] == "transformer" else mlp).shapes(architecture)
    found = {}
    for name, shape in shapes.items():
        weight = shapes.get(f"{name.rpartition('.')[0]}.weight", ())
        if len(weight) == 2:
            spread = 1 / math.sqrt(weight[1])
            found[name] = torch.empty(shape).uniform_(-spread, spread, generator=generator)
        elif name == "position":
            found[name] = POSITION_SPREAD * torch.randn(shape, generator=generator)
        elif name == "sigma":
            found[name] = torch.full(shape, LOG_STD)
        else:
            found[name] = (torch.ones if name.endswith((".weight", "_variance")) else torch.zeros)(shape)
    return found
