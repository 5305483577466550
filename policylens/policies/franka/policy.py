"""A checkpoint of the family as a policy: an MLP actor-critic or a transformer, as its architecture says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policylens.policies.checkpoint import take_tensors
from policylens.policies.franka import mlp, transformer
from policylens.policies.franka.actor_critic import ActorCritic
from policylens.policies.franka.family import check_architecture

NETWORKS = {
    "mlp": (mlp.MLPPolicy, mlp.shapes),
    "transformer": (transformer.TransformerPolicy, transformer.shapes),
}
"""Kind of an architecture -> the network's class, and the shapes of its tensors."""


def build(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> ActorCritic:
    """The policy of a checkpoint's record and tensors; every tensor must fit the architecture, and none be left.

    dtype: None for the weights' own; running statistics, which rl_games keeps in float64, are brought to it.
    Raises UserError for a wrong architecture, missing or foreign tensors, and shapes that do not chain.
    """
    architecture = check_architecture(record["architecture"])
    network, shapes = NETWORKS[architecture["kind"]]
    taken = take_tensors(tensors, shapes(architecture), "franka")
    dtype = dtype or taken["value.weight"].dtype
    return network(record, {name: tensor.to(device=device, dtype=dtype) for name, tensor in taken.items()})
