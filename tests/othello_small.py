"""A small untrained Othello network, and evaluators that stand in for one."""

from __future__ import annotations

import numpy as np

from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.othello.network import initial_network
from policylens.policies.othello.policy import build
from policylens.policies.othello.rules import unpack

ARCHITECTURE = {"width": 16, "blocks": 2, "hidden": 24}
RECORD = {"family": "othello", "architecture": ARCHITECTURE}


def small_tensors(seed=0):
    return {name: tensor.clone() for name, tensor in initial_network(ARCHITECTURE, seed).state_dict().items()}


def small_policy(seed=0, dtype=None):
    return build(RECORD, small_tensors(seed), "cpu", dtype)


def small_checkpoint(folder, seed=0):
    write_checkpoint(folder, family="othello", architecture=ARCHITECTURE, tensors=small_tensors(seed))
    return folder


def even_handed(own, opp):
    """Every move alike, every position level: what is found, the search alone has found."""
    return np.zeros((len(own), 37), np.float32), np.zeros(len(own), np.float32)


def disc_counting(own, opp):
    """Prefers low squares, and values a position by its discs: not symmetric, and cheap."""
    cells, _ = unpack(own, opp)
    logits = np.tile(np.linspace(1, 0, 37, dtype=np.float32), (len(own), 1))
    return logits, np.tanh(cells.sum(axis=1, dtype=np.float32) / 10)
