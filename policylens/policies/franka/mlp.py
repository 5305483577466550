"""An MLP actor-critic as a policy that can be read, edited and resumed after every layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from policylens.policies.franka.actor_critic import ActorCritic, statistics_shapes
from policylens.policies.franka.family import layer_site, linear_site
from policylens.policies.franka.family import sites as sites_of
from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.protocol import Carry, Stage

ACTIVATIONS = {
    "elu": functional.elu,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "selu": functional.selu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
}


class MLPPolicy(ActorCritic):
    """An actor-critic of linear layers."""

    def __init__(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__(record, tensors, tensors["value.weight"])
        self.activation = ACTIVATIONS[self.architecture["activation"]]

    @functools.cached_property
    def stages(self) -> Sequence[Stage]:
        """The input; each layer of the actor, before and after its activation; each layer of a critic of its own."""
        by_name = {site.name: site for site in sites_of(self.record)}
        stages = [Stage(by_name["input"], "input", self._normalise)]
        for stack, key, sizes in (("actor_mlp", "actor", "hidden"), ("critic_mlp", "critic", "critic")):
            for number in range(len(self.architecture[sizes])):
                linear = functools.partial(self._layer, stack, key, number)
                stages.append(Stage(by_name[linear_site(stack, number)], key, linear))
                stages.append(Stage(by_name[layer_site(stack, number)], key, functools.partial(self._activate, key)))
        return stages

    def affine(self, site: str) -> tuple[str, Tensor] | None:
        """See :meth:`Policy.affine`: the next linear map, where nothing else reads the layer."""
        if site == "input":
            return None if self.architecture["critic"] else self._onward("actor_mlp", 0)
        for stack, sizes in (("actor_mlp", "hidden"), ("critic_mlp", "critic")):
            for number in range(len(self.architecture[sizes]) - 1):
                if site == layer_site(stack, number):
                    return self._onward(stack, number + 1)
        return None

    def _onward(self, stack: str, number: int) -> tuple[str, Tensor]:
        return linear_site(stack, number), self.tensors[f"{stack}.{2 * number}.weight"].T

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

    def _sigma(self, actor: Tensor) -> Tensor:
        return self.tensors["sigma"].expand(len(actor), -1)

    def _normalise(self, carry: Carry) -> Carry:
        return {"input": self.normalised(carry["observations"])}

    def _layer(self, stack: str, key: str, number: int, carry: Carry) -> Carry:
        before = carry[key] if number else carry["input"]
        # A critic of its own still needs the input; nothing else does.
        kept = carry if self.architecture["critic"] else {}
        return {**kept, key: self._linear(f"{stack}.{2 * number}", before)}

    def _activate(self, key: str, carry: Carry) -> Carry:
        return {**carry, key: self.activation(carry[key])}

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
    return found | statistics_shapes(architecture)
