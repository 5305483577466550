"""Small untrained networks of the Franka family, and made-up observations."""

from __future__ import annotations

import numpy as np
import torch

from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.franka.initial import full_architecture, initial_tensors
from policylens.policies.franka.policy import build

SIZES = {
    "mlp": {"kind": "mlp", "hidden": [16, 12, 8]},
    "transformer": {"kind": "transformer", "width": 16, "blocks": 2, "heads": 2, "hidden": 32},
}


def small_record(kind):
    return {"family": "franka", "architecture": full_architecture(SIZES[kind])}


def small_tensors(kind, seed=0):
    """Random weights; statistics are random too, so that normalising is seen to be done."""
    tensors = initial_tensors(small_record(kind)["architecture"], seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name.endswith("_mean"):
            tensor.normal_(generator=generator)
        elif name.endswith("_variance"):
            tensor.uniform_(0.5, 2, generator=generator)
    return tensors


def small_policy(kind, seed=0, dtype=None):
    return build(small_record(kind), small_tensors(kind, seed), "cpu", dtype)


def small_checkpoint(folder, kind, seed=0):
    record = small_record(kind)
    write_checkpoint(folder, family="franka", architecture=record["architecture"], tensors=small_tensors(kind, seed))
    return folder


def observations(rows=20, seed=0):
    return {"observations": np.random.default_rng(seed).normal(size=(rows, 23)).astype(np.float32)}
