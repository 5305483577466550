"""What the Franka family can do: actor-critics of the kind that rl_games trains. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.policies.family import Family
from policylens.policies.sites import Site

ACTIVATIONS = ("elu", "relu", "tanh", "selu", "swish", "gelu", "softplus")
HEADS = ("gaussian", "discrete")

IMPORT_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "activation": {"enum": list(ACTIVATIONS)},
        "clip": {"type": "number", "exclusiveMinimum": 0},
    },
}
"""What tensors do not tell: the activation of hidden layers, and where normalised observations are clamped."""

IMPORT_DEFAULTS = {"activation": "elu", "clip": 5.0}

_KEYS = {
    "observations",
    "hidden",
    "critic",
    "actions",
    "head",
    "log_std",
    "activation",
    "clip",
    "normalised",
    "returns",
}


def check_architecture(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture if it is one of these networks, else UserError.

    observations, actions: counts. hidden: sizes of the actor's layers. critic: sizes of the layers of a critic of its
    own; [] where the value head reads the actor's last layer. head: "gaussian" or "discrete". log_std: "constant" or
    "linear" (of the actor's last layer), None for discrete heads. activation, clip: as in `IMPORT_SETTINGS`.
    normalised: whether observations are (by a running mean and variance). returns: whether the value head's unit is
    that of normalised returns.
    """
    found = dict(architecture)
    sizes = [found.get("observations"), found.get("actions"), *found.get("hidden", [None]), *found.get("critic", [])]
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    log_std = (None,) if found.get("head") == "discrete" else ("constant", "linear")
    known = found.get("head") in HEADS and found.get("activation") in ACTIVATIONS and found.get("log_std") in log_std
    if found.keys() != _KEYS or not whole or not known or not found["hidden"]:
        raise UserError(f"not the architecture of an MLP actor-critic: {found}; import the checkpoint again")
    return found


def layer_site(stack: str, number: int) -> str:
    """Name of the site after the activation of a layer: rl_games counts linear maps and activations alike."""
    return f"{stack}_{2 * number + 1}"


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """The observation as the network takes it, then the layers of the actor, then those of a critic of its own."""
    found = check_architecture(record["architecture"])
    taken = [Site("input", found["observations"], description="normalised and clamped observation")]
    for stack, sizes in (("actor_mlp", found["hidden"]), ("critic_mlp", found["critic"])):
        for number, size in enumerate(sizes):
            what = f"hidden layer {number + 1} of the {stack.removesuffix('_mlp')}, after its activation"
            taken.append(Site(layer_site(stack, number), size, description=what))
    return tuple(taken)


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The array of a batch."""
    return ("observations",)


FAMILY = Family(
    name="franka",
    capabilities=frozenset({"run", "import"}),
    sites=sites,
    settings={"import": IMPORT_SETTINGS},
    observations=observations,
)
