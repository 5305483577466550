"""An MLP actor-critic as a policy that can be read, edited and resumed after every layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from policylens.errors import UserError
from policylens.policies.checkpoint import take_tensors
from policylens.policies.franka.family import check_architecture, layer_site
from policylens.policies.franka.family import sites as sites_of
from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.protocol import Batch, Carry, Policy, Stage

VARIANCE_FLOOR = 1e-5
"""Added to the variance of observations and returns before the square root, as rl_games does."""

ACTIVATIONS = {
    "elu": functional.elu,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "selu": functional.selu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
}


class MLPPolicy(Policy):
    """An actor-critic of linear layers.

    A batch holds `observations`, (n, observations), in the simulator's units. The head's mean is not clamped. The value
    is the value head's own, in units of normalised returns where there are such; `in_returns` turns it into returns.
    """

    def __init__(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.record = record
        self.tensors = tensors
        self.architecture = check_architecture(record["architecture"])
        self.activation = ACTIVATIONS[self.architecture["activation"]]
        weight = tensors["value.weight"]
        self.device, self.dtype = weight.device, weight.dtype

    @functools.cached_property
    def stages(self) -> Sequence[Stage]:
        """The input; each layer of the actor; each layer of a critic of its own."""
        by_name = {site.name: site for site in sites_of(self.record)}
        stages = [Stage(by_name["input"], "input", self._normalise)]
        for stack, key, sizes in (("actor_mlp", "actor", "hidden"), ("critic_mlp", "critic", "critic")):
            for number in range(len(self.architecture[sizes])):
                forward = functools.partial(self._layer, stack, key, number)
                stages.append(Stage(by_name[layer_site(stack, number)], key, forward))
        return stages

    def begin(self, batch: Batch, state: Any) -> Carry:
        """Observations on the policy's device."""
        width = self.architecture["observations"]
        if "observations" not in batch:
            raise UserError(f"the batch has no array 'observations', it has {', '.join(sorted(batch)) or 'none'}")
        rows = torch.as_tensor(batch["observations"]).to(self.device, self.dtype)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise UserError(f"`observations` has shape {tuple(rows.shape)}, the policy takes (n, {width})")
        return {"observations": rows}

    def finish(self, carry: Carry) -> tuple[Gaussian | Discrete, Tensor, None]:
        """The action distribution, and the value head's output (n,)."""
        actor = carry["actor"]
        value = self._linear("value", carry["critic"] if self.architecture["critic"] else actor).squeeze(-1)
        if self.architecture["head"] == "discrete":
            return Discrete(self._linear("logits", actor)), value, None
        linear = self.architecture["log_std"] == "linear"
        return (
            Gaussian(self._linear("mu", actor), self._linear("sigma", actor) if linear else self._sigma(actor)),
            value,
            None,
        )

    def in_returns(self, value: Tensor) -> Tensor:
        """The value (n,) in units of returns (the discounted sum of rewards that training saw)."""
        if not self.architecture["returns"]:
            return value
        mean, variance = self.tensors["return_mean"], self.tensors["return_variance"]
        return value * (variance + VARIANCE_FLOOR).sqrt() + mean

    def _sigma(self, actor: Tensor) -> Tensor:
        return self.tensors["sigma"].expand(len(actor), -1)

    def _normalise(self, carry: Carry) -> Carry:
        rows = carry["observations"]
        if self.architecture["normalised"]:
            mean, variance = self.tensors["observation_mean"], self.tensors["observation_variance"]
            rows = (rows - mean) / (variance + VARIANCE_FLOOR).sqrt()
            rows = rows.clamp(-self.architecture["clip"], self.architecture["clip"])
        return {"input": rows}

    def _layer(self, stack: str, key: str, number: int, carry: Carry) -> Carry:
        before = carry[key] if number else carry["input"]
        # A critic of its own still needs the input; nothing else does.
        kept = carry if self.architecture["critic"] else {}
        return {**kept, key: self.activation(self._linear(f"{stack}.{2 * number}", before))}

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of such a network."""
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, width: int, out: int) -> int:
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, width), (out,)
        return out

    width = {}
    for stack, sizes in (("actor_mlp", architecture["hidden"]), ("critic_mlp", architecture["critic"])):
        width[stack] = architecture["observations"]
        for number, size in enumerate(sizes):
            width[stack] = linear(f"{stack}.{2 * number}", width[stack], size)
    last, actions = width["actor_mlp"], architecture["actions"]
    linear("value", width["critic_mlp"] if architecture["critic"] else last, 1)
    linear("logits" if architecture["head"] == "discrete" else "mu", last, actions)
    if architecture["log_std"] == "linear":
        linear("sigma", last, actions)
    elif architecture["log_std"] == "constant":
        found["sigma"] = (actions,)
    for name, size, there in (
        ("observation", architecture["observations"], architecture["normalised"]),
        ("return", 1, architecture["returns"]),
    ):
        if there:
            found[f"{name}_mean"] = found[f"{name}_variance"] = (size,)
    return found


def build(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> MLPPolicy:
    """The policy of a checkpoint's record and tensors; every tensor must fit the architecture, and none be left.

    dtype: None for the weights' own; running statistics, which rl_games keeps in float64, are brought to it.
    Raises UserError for a wrong architecture, missing or foreign tensors, and shapes that do not chain.
    """
    architecture = check_architecture(record["architecture"])
    taken = take_tensors(tensors, shapes(architecture), "franka")
    dtype = dtype or taken["value.weight"].dtype
    return MLPPolicy(record, {name: tensor.to(device=device, dtype=dtype) for name, tensor in taken.items()})
