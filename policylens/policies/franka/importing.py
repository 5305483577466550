"""rl_games' checkpoints (.pth): an actor-critic whose architecture is read from its tensors.

Such a file holds {"model": state dict, "optimizer": ..., "epoch": ..., "frame": ..., ...}. Of the state dict every
tensor is used or, where only training needs it (`count` of the running statistics), known and left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from policylens.errors import UserError
from policylens.policies.franka.family import IMPORT_DEFAULTS, IMPORT_SETTINGS, check_architecture
from policylens.stores.foreign import load_torch
from policylens.stores.schemas import check_value

NETWORK = "a2c_network."
STATISTICS = {
    "running_mean_std.running_mean": "observation_mean",
    "running_mean_std.running_var": "observation_variance",
    "value_mean_std.running_mean": "return_mean",
    "value_mean_std.running_var": "return_variance",
}
LEFT_OUT = ("running_mean_std.count", "value_mean_std.count")
_LAYER = re.compile(r"(?P<stack>actor_mlp|critic_mlp)\.(?P<number>[0-9]+)\.weight")


def read(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of an rl_games checkpoint.

    options: activation and clip, which its tensors do not tell. Raises UserError naming the tensor for networks that
    are no chain of linear layers, or whose shapes do not chain.
    """
    check_value(IMPORT_SETTINGS, dict(options), str(path), ["options"])
    content = load_torch(path)
    tensors = _renamed(path, _state_dict(path, content))
    architecture = _architecture(path, tensors) | {**IMPORT_DEFAULTS, **options}
    training = {name: content[name] for name in ("epoch", "frame") if isinstance(content.get(name), int)}
    return {"family": "franka", "architecture": check_architecture(architecture), "training": training}, tensors


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        raise UserError(f"{path}: no rl_games checkpoint: it needs a state dict under 'model'")
    return {str(name).replace("_orig_mod.", ""): value for name, value in model.items()}


def _renamed(path: Path, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors without rl_games' prefix, statistics by their own names, and nothing else."""
    found = {}
    for name, tensor in model.items():
        if name in LEFT_OUT:
            continue
        if name not in STATISTICS and not name.startswith(NETWORK):
            raise UserError(f"{path}: tensor {name!r} is none of an MLP actor-critic; such a network is not imported")
        found[STATISTICS.get(name, name.removeprefix(NETWORK))] = tensor.detach().clone().contiguous()
    return found


def _architecture(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors' names and shapes say. Whether they chain, and whether one is left over, `build` checks."""
    actor, critic = (_stack(path, tensors, stack) for stack in ("actor_mlp", "critic_mlp"))
    head = "mu" if "mu.weight" in tensors else "logits"
    for name in ("actor_mlp.0.weight", f"{head}.weight", "value.weight"):
        if name not in tensors:
            raise UserError(f"{path}: has no tensor {NETWORK}{name}; only MLP actor-critics are imported")
    gaussian = head == "mu"
    return {
        "kind": "mlp",
        "observations": actor[0][1],
        "hidden": [out for out, _ in actor],
        "critic": [out for out, _ in critic],
        "actions": tensors[f"{head}.weight"].shape[0],
        "head": "gaussian" if gaussian else "discrete",
        "log_std": ("linear" if "sigma.weight" in tensors else "constant") if gaussian else None,
        "normalised": "observation_mean" in tensors,
        "returns": "return_mean" in tensors,
    }


def _stack(path: Path, tensors: Mapping[str, Tensor], stack: str) -> list[tuple[int, ...]]:
    """Shapes (out, in) of a stack's linear maps, which stand at 0, 2, 4... between their activations."""
    found = {}
    for name, tensor in tensors.items():
        match = _LAYER.fullmatch(name)
        if match and match["stack"] == stack:
            if tensor.ndim != 2:
                raise UserError(f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, a linear map has two axes")
            found[int(match["number"])] = tuple(tensor.shape)
    if sorted(found) != [2 * number for number in range(len(found))]:
        raise UserError(f"{path}: {stack} has linear maps at {sorted(found)}, an MLP has them at 0, 2, 4...")
    shapes = [found[number] for number in sorted(found)]
    for (number, (out, _)), (_, taken) in zip(enumerate(shapes), shapes[1:], strict=False):
        if out != taken:
            raise UserError(f"{path}: {stack}.{2 * number} gives {out} units, {stack}.{2 * number + 2} takes {taken}")
    return shapes
