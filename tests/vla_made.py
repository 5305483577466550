"""Small pi0 and pi0.5 networks for tests: LeRobot's modules with random weights."""

from __future__ import annotations

import numpy as np

WORDS = ["Task", ":", ",", "State", ";", "Action", "-", "turn", "on", "off", "the", "stove", "open", "close", "drawer"]
TEXTS = ("turn on the stove", "open the drawer")


def architecture(kind: str, **more) -> dict:
    """A network of about 0.3M numbers. kind: "pi0" or "pi05"."""
    shared = {"depth": 3, "head_dim": 16, "kv_heads": 1}
    return {
        "kind": kind,
        "language": {"width": 64, "hidden": 96, **shared},
        "expert": {"width": 32, "hidden": 48, **shared},
        "vision": {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "patch": 14, "image_size": 56},
        "vocabulary": 300,
        "prompt_tokens": 40,
        "chunk": 5,
        "denoising_steps": 3,
        "state": 8,
        "action": 7,
        "max_state": 32,
        "max_action": 32,
        "cameras": ["image", "wrist_image"],
        "normalisation": {
            "state": {"mode": "quantiles", "q01": [-1.5] * 8, "q99": [1.0] * 8},
            "action": {"mode": "mean_std", "mean": [0.25] * 7, "std": [0.5] * 7},
        },
        "tokenizer": {"words": [*WORDS, *(str(number) for number in range(256))]},
        **more,
    }


def policy(kind: str, seed: int = 0, **more):
    """A policy with weights drawn by seed, adaptive norms and all."""
    from policylens.policies.vla.policy import build

    found = architecture(kind, **more)
    return build({"family": kind, "architecture": found}, weights(found, seed))


def weights(found: dict, seed: int = 0) -> dict:
    """Name -> tensor: as LeRobot initialises them, but with adaptive norms that do something."""
    import torch

    from policylens.policies.vla.network import fresh_network, state_of

    torch.manual_seed(seed)
    network = fresh_network(found)
    for name, parameter in network.named_parameters():
        if ".dense." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return {name: tensor.clone() for name, tensor in state_of(network).items()}


def batch(rows: int = 4, seed: int = 0, side: int = 64) -> dict[str, np.ndarray]:
    """Observations of random pixels, with two instructions by turns."""
    from policylens.stores.texts import encode_text

    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 255, (rows, side, side, 3), dtype=np.uint8),
        "wrist_image": rng.integers(0, 255, (rows, side, side, 3), dtype=np.uint8),
        "state": rng.uniform(-1.2, 1, (rows, 8)).astype(np.float32),
        "instruction": np.stack([encode_text(TEXTS[row % 2]) for row in range(rows)]),
    }
