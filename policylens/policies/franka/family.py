"""What the Franka family can do: actor-critics, trained here or by rl_games. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.policies.family import Family
from policylens.policies.franka.inputs import inputs
from policylens.policies.sites import Site

ACTIVATIONS = ("elu", "relu", "tanh", "selu", "swish", "gelu", "softplus")
HEADS = ("gaussian", "discrete")
KINDS = ("mlp", "transformer")

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

_COUNT = {"type": "integer", "minimum": 1}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}
_HORIZON = {"horizon": _COUNT, "lanes": _COUNT}
_PLAY = {
    **_HORIZON,
    "hold": {"type": "integer", "minimum": 0},
    "sample": {"type": "boolean"},
    "noise": _NOT_NEGATIVE,
}

ROLLOUT_SETTINGS = {"type": "object", "additionalProperties": False, "properties": _PLAY}

TRAINING_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["iterations"],
    "properties": {
        **_HORIZON,
        "iterations": _COUNT,
        "architecture": {
            "type": "object",
            "additionalProperties": False,
            "required": ["kind"],
            "properties": {
                "kind": {"enum": list(KINDS)},
                "hidden": {"oneOf": [_COUNT, {"type": "array", "minItems": 1, "items": _COUNT}]},
                "width": _COUNT,
                "blocks": _COUNT,
                "heads": _COUNT,
            },
        },
        "snapshots": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "save_every": _COUNT,
        "demonstrations": {"type": "integer", "minimum": 2},
        "episodes": _COUNT,
        "noise": _NOT_NEGATIVE,
        "steps": _COUNT,
        "batch": _COUNT,
        "learning_rate": _POSITIVE,
        "warm_up": _COUNT,
        "weight_decay": _NOT_NEGATIVE,
        "clip": _POSITIVE,
        "discount": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "value_iterations": _COUNT,
        "value_weight": _NOT_NEGATIVE,
    },
}

STRENGTH_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {**_PLAY, "episodes": {"type": "integer", "minimum": 2}, "discount": _POSITIVE | {"maximum": 1}},
}

RETURNS_SETTINGS = {"type": "object", "additionalProperties": False, "properties": _PLAY}

LABELS = {
    "phase": "0 approach, 1 grasp (a finger touches the handle), 2 pull (open by more than 0.01 m), 3 done (0.30 m)",
    "distance_to_handle": "from the point between the fingertips to the handle of the drawer (m)",
    "finger_contact": "a finger touches the handle (bool)",
    "drawer_position": "how far the drawer is open (m)",
    "drawer_velocity": "the drawer's velocity, positive while it opens (m/s)",
    "success": "the drawer is open by more than 0.30 m at some step of the episode (bool)",
}

MEASURES = {
    "return": "sum of rewards: the progress from start to end",
    "success": "the drawer has been opened by more than 0.30 m (share of episodes)",
    "steps": "until the drawer was open; the horizon where it never was (steps)",
    "touched": "a finger has touched the handle (share of episodes)",
    "pulled": "the drawer has been opened by more than 0.01 m (share of episodes)",
    "opening": "how far the drawer has been open at most (m)",
    "closest": "least distance from the point between the fingertips to the handle (m)",
}

_MLP_KEYS = {
    "kind",
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
_TRANSFORMER_KEYS = {
    "kind",
    "observations",
    "tokens",
    "width",
    "blocks",
    "heads",
    "hidden",
    "actions",
    "head",
    "log_std",
    "clip",
    "normalised",
    "returns",
}


def check_architecture(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture if it is one of these networks, else UserError.

    kind: "mlp" (where it is left out) or "transformer". observations, actions: counts. clip: where normalised
    observations are clamped. normalised: whether they are, by a running mean and variance. returns: whether the value
    head's unit is that of normalised returns.

    mlp: hidden: sizes of the actor's layers. critic: sizes of the layers of a critic of its own; [] where the value
    head reads the actor's last layer. head: "gaussian" or "discrete". log_std: "constant" or "linear" (of the actor's
    last layer), None for discrete heads. activation: as in `IMPORT_SETTINGS`.
    transformer: tokens: the indices of the observation that make up each token. width: of the stream. blocks, heads:
    counts. hidden: units of a block's feed-forward layer. head: "gaussian". log_std: "constant".
    """
    found = {"kind": "mlp", **architecture}
    if found["kind"] == "transformer":
        return _check_transformer(found)
    sizes = [found.get("observations"), found.get("actions"), *_list(found, "hidden"), *_list(found, "critic")]
    log_std = (None,) if found.get("head") == "discrete" else ("constant", "linear")
    known = found.get("head") in HEADS and found.get("activation") in ACTIVATIONS and found.get("log_std") in log_std
    if found["kind"] != "mlp" or found.keys() != _MLP_KEYS or not _counts(sizes) or not known or not found["hidden"]:
        raise UserError(f"not the architecture of an MLP actor-critic: {found}; import the checkpoint again")
    return found


def _check_transformer(found: dict[str, Any]) -> dict[str, Any]:
    tokens = _list(found, "tokens")
    sizes = [found.get(name) for name in ("observations", "actions", "width", "blocks", "heads", "hidden")]
    sound = found.keys() == _TRANSFORMER_KEYS and _counts(sizes) and tokens and all(tokens)
    sound = sound and found["head"] == "gaussian" and found["log_std"] == "constant"
    sound = sound and found["width"] % found["heads"] == 0
    if not sound or sorted(index for token in tokens for index in token) != list(range(found["observations"])):
        raise UserError(
            f"not the architecture of a transformer: {found}; heads must divide width, and the tokens hold every "
            "observation once"
        )
    return found


def _list(found: Mapping[str, Any], name: str) -> list[Any]:
    return list(found[name]) if isinstance(found.get(name), list | tuple) else [None]


def _counts(sizes: list[Any]) -> bool:
    return all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)


def layer_site(stack: str, number: int) -> str:
    """Name of the site after the activation of a layer: rl_games counts linear maps and activations alike."""
    return f"{stack}_{2 * number + 1}"


def linear_site(stack: str, number: int) -> str:
    """Name of the site before the activation of a layer."""
    return f"{stack}_{2 * number}"


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """The network's sites, in the order of computation."""
    found = check_architecture(record["architecture"])
    return (_transformer_sites if found["kind"] == "transformer" else _mlp_sites)(found)


def _mlp_sites(found: Mapping[str, Any]) -> tuple[Site, ...]:
    """The observation as the network takes it, then the layers of the actor, then those of a critic of its own."""
    taken = [Site("input", found["observations"], description="normalised and clamped observation")]
    for stack, sizes in (("actor_mlp", found["hidden"]), ("critic_mlp", found["critic"])):
        for number, size in enumerate(sizes):
            what = f"hidden layer {number + 1} of the {stack.removesuffix('_mlp')}"
            taken += [
                Site(linear_site(stack, number), size, description=f"{what}, before its activation"),
                Site(layer_site(stack, number), size, description=f"{what}, after its activation"),
            ]
    return tuple(taken)


def _transformer_sites(found: Mapping[str, Any]) -> tuple[Site, ...]:
    """The stream after the embedding and after every block, blocks' hidden units before it, and the final norm."""
    inner = (("token", len(found["tokens"])),)

    def site(name: str, width: int, description: str, layer: int | None = None) -> Site:
        return Site(name, width, inner=inner, description=description, layer=layer)

    taken = [site("embed", found["width"], "residual stream after the embedding of the observation's groups")]
    for number in range(1, found["blocks"] + 1):
        taken += [
            site(f"block_{number}_hidden", found["hidden"], f"hidden units of block {number}, after the GELU", number),
            site(f"block_{number}", found["width"], f"residual stream after block {number}", number),
        ]
    return (*taken, site("final_norm", found["width"], "normalised residual stream; the heads read its last token"))


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The array of a batch."""
    return ("observations",)


FAMILY = Family(
    name="franka",
    capabilities=frozenset({"run", "import", "rollout", "labels", "training", "strength", "returns"}),
    sites=sites,
    simulator="franka",
    settings={
        "import": IMPORT_SETTINGS,
        "rollout": ROLLOUT_SETTINGS,
        "training": TRAINING_SETTINGS,
        "strength": STRENGTH_SETTINGS,
        "returns": RETURNS_SETTINGS,
    },
    labels=LABELS,
    measures=MEASURES,
    observations=observations,
    inputs=inputs,
    steps_per_episode=170.0,
)
