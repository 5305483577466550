"""pi0.5 networks of random weights for benchmarks: published positions, and layers of up to the published widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from policylens.policies.protocol import Policy

WORDS = ["Task", ":", ",", "State", ";", "Action", "-", *["turn", "on", "the", "stove"], *map(str, range(256))]
REAL_WIDTH = 2048


def architecture(width: int, depth: int, denoising_steps: int = 10) -> dict[str, Any]:
    """pi0.5 with every width scaled by width / 2048, `depth` layers in each part; positions as published.

    Of 2,048 and 18 that is the published language model and expert; the vision tower has 27 layers there.
    """
    scale = width / REAL_WIDTH
    shared = {"depth": depth, "head_dim": int(256 * scale), "kv_heads": 1}
    # What the network computes does not depend on states being normalised, and no environment is played.
    return {
        "kind": "pi05",
        "language": {"width": width, "hidden": 8 * width, **shared},
        "expert": {"width": width // 2, "hidden": 2 * width, **shared},
        "vision": {"width": int(1152 * scale), "hidden": int(4304 * scale), "depth": depth, "heads": 16, "patch": 14}
        | {"image_size": 224},
        "vocabulary": 300,
        "prompt_tokens": 200,
        "chunk": 50,
        "denoising_steps": denoising_steps,
        "state": 8,
        "action": 7,
        "max_state": 32,
        "max_action": 32,
        "cameras": ["image", "wrist_image"],
        "normalisation": {"state": {"mode": "identity"}, "action": {"mode": "identity"}},
        "tokenizer": {"words": WORDS},
    }


def policies(found: dict[str, Any], seed: int = 0) -> dict[str, Policy]:
    """The same network in float32 and in bfloat16."""
    from policylens.policies.vla.network import fresh_network, state_of
    from policylens.policies.vla.policy import build

    torch.manual_seed(seed)
    tensors = {name: tensor.clone() for name, tensor in state_of(fresh_network(found)).items()}
    record = {"family": "pi05", "architecture": found}
    # Built from copies: a policy may keep the tensors that it is given.
    return {
        name: build(record, {key: tensor.clone() for key, tensor in tensors.items()}, dtype=getattr(torch, name))
        for name in ("float32", "bfloat16")
    }


def frames(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Observations of random pixels at the network's own resolution."""
    from policylens.policies.vla.prompts import encoded

    rng = np.random.default_rng(seed)
    pictures = {name: rng.integers(0, 255, (rows, 224, 224, 3), dtype=np.uint8) for name in ("image", "wrist_image")}
    states = rng.uniform(-1, 1, (rows, 8)).astype(np.float32)
    return {**pictures, "state": states, "instruction": np.stack([encoded("turn on the stove")] * rows)}
