"""A new small pi0.5: its architecture, and weights to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policylens.policies.vla.architecture import EMBEDDING, check_architecture
from policylens.policies.vla.frames import SLUGS, Frames
from policylens.policies.vla.libero.tasks import TASKS, Task
from policylens.policies.vla.network import fresh_network
from policylens.policies.vla.prompts import BINS, SPECIAL

SIZES: dict[str, Any] = {
    "width": 96,
    "hidden": 256,
    "depth": 4,
    "head_dim": 16,
    "expert_width": 64,
    "expert_hidden": 128,
    "vision_width": 96,
    "vision_hidden": 192,
    "vision_depth": 3,
    "vision_heads": 4,
    "patch": 16,
    "chunk": 8,
    "denoising_steps": 5,
    "cameras": ["image", "wrist_image"],
}
"""What `architecture` of a training's settings may set, and the defaults."""
BESIDES = 21
"""Room in a prompt besides the instruction: its fixed words, 8 numbers of the state, and some minus signs."""
SPREAD = 0.02
"""Added to the actions' standard deviation: of motions that are hardly ever made."""


def tasks_of(frames: Frames) -> list[Task]:
    """The tasks that frames show, in the order of TASKS."""
    shown = {SLUGS[number] for number in np.unique(frames.columns["task"])}
    return [task for slug, task in TASKS.items() if slug in shown]


def words(tasks: Sequence[Task]) -> list[str]:
    """The tokenizer's: of prompts and the tasks' instructions, then the numbers of the state's bins."""
    own = {word for task in tasks for word in task.instruction.split()}
    return ["Task", ":", ",", "State", ";", "Action", "-", *sorted(own), *map(str, range(BINS))]


def architecture_of(sizes: Mapping[str, Any], frames: Frames) -> dict[str, Any]:
    """sizes: differences from SIZES. frames: what is learnt; they give the statistics by which states and actions are
    normalised, and the words.
    """
    learnt = tasks_of(frames)
    own, longest = words(learnt), max(len(task.instruction.split()) for task in learnt)
    size = {**SIZES, **sizes}
    shared = {name: size[name] for name in ("depth", "head_dim")} | {"kv_heads": 1}
    state, taught = frames.columns["state"], frames.columns["taught"]
    low, high = (np.quantile(state, share, axis=0).tolist() for share in (0.01, 0.99))
    mean, spread = taught.mean(axis=0, dtype=np.float64), taught.std(axis=0, dtype=np.float64) + SPREAD
    return check_architecture(
        {
            "kind": "pi05",
            "language": {"width": size["width"], "hidden": size["hidden"], **shared},
            "expert": {"width": size["expert_width"], "hidden": size["expert_hidden"], **shared},
            "vision": {name: size[f"vision_{name}"] for name in ("width", "depth", "heads", "hidden")}
            | {"patch": size["patch"], "image_size": frames.size},
            "vocabulary": len(SPECIAL) + len(own),
            "prompt_tokens": longest + BESIDES,
            "chunk": size["chunk"],
            "denoising_steps": size["denoising_steps"],
            "state": state.shape[1],
            "action": taught.shape[1],
            "max_state": state.shape[1],
            "max_action": taught.shape[1],
            "cameras": list(size["cameras"]),
            "normalisation": {
                "state": {"mode": "quantiles", "q01": low, "q99": high},
                "action": {"mode": "mean_std", "mean": mean.tolist(), "std": spread.tolist()},
            },
            "tokenizer": {"words": own},
        }
    )


def initial_network(architecture: Mapping[str, Any], seed: int) -> nn.Module:
    """LeRobot's network with its own initial weights; near numbers begin with near embeddings.

    A network of this size, with these few demonstrations, would otherwise have to learn the order of 256 words.
    """
    torch.manual_seed(seed)
    network = fresh_network(architecture)
    embedding = network.get_parameter(EMBEDDING)
    width = embedding.shape[1]
    first = len(architecture["tokenizer"]["words"]) - BINS + len(SPECIAL)
    with torch.no_grad():
        embedding.normal_(std=width**-0.5)
        embedding[first : first + BINS] = _waves(width) * (2 / width) ** 0.5
    return network


def _waves(width: int) -> Tensor:
    """(BINS, width): sines and cosines of a bin's place, of growing frequency."""
    places = torch.linspace(0, 1, BINS)[:, None] * torch.arange(1, width // 2 + 1) * (torch.pi / 8)
    return torch.cat([places.sin(), places.cos()], dim=1)
