"""The network as a function of bitboards, for the search.

Evaluations are always done in blocks of the same number of rows: matrix products of different sizes may round
differently, and a position's numbers should not depend on how many others are evaluated beside it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.network import PLANES, Network
from policylens.policies.othello.rules import ACTIONS, ONE, SQUARES, unpack
from policylens.policies.othello.search import Evaluate
from policylens.policies.protocol import Policy

BLOCK = 128


@njit("void(uint64[:], uint64[:], float32[:, :])", cache=True)
def fill_planes(own, opp, planes):
    """Write the network's input planes (n, 72) for bitboards (n,)."""
    for row in range(own.shape[0]):
        for square in range(SQUARES):
            bit = np.uint64(square)
            planes[row, square] = np.float32((own[row] >> bit) & ONE)
            planes[row, SQUARES + square] = np.float32((opp[row] >> bit) & ONE)


def network_evaluator(network: Network, dtype: torch.dtype = torch.float32) -> Evaluate:
    """A frozen copy of the network in `dtype`; later training steps do not change it."""
    frozen = copy.deepcopy(network).to(dtype).eval()

    def evaluate(own, opp):
        planes = np.zeros((_padded(len(own)), PLANES), np.float32)
        fill_planes(own, opp, planes)
        with torch.inference_mode():
            blocks = torch.from_numpy(planes).to(dtype).split(BLOCK)
            logits, values = zip(*map(frozen, blocks), strict=True)
            logits, values = torch.cat(logits)[: len(own)].float(), torch.cat(values)[: len(own)].float()
        return logits.numpy(), values.numpy()

    return evaluate


class PolicyEvaluator:
    """A policy as it runs, whatever its `run` does: an edited policy plays as edited.

    reference: a policy that is asked about the same positions, and does not play.
    divergence: of the last call's positions, float64 (n,): KL(reference || policy) of the moves, in nats; 0 without a
    reference.
    """

    def __init__(self, policy: Policy, reference: Policy | None = None) -> None:
        self.policy, self.reference = policy, reference
        self.divergence = np.zeros(0)

    def __call__(self, own, opp):
        cells, legal = unpack(_stretched(own), _stretched(opp))
        logits, values = np.empty((len(cells), ACTIONS), np.float32), np.empty(len(cells), np.float32)
        apart = np.zeros(len(cells))
        with torch.inference_mode():
            for start in range(0, len(cells), BLOCK):
                rows = slice(start, start + BLOCK)
                batch = {"cells": cells[rows], "legal": legal[rows]}
                found = self.policy.run(batch)
                logits[rows], values[rows] = found.heads.logits.float().cpu(), found.value.float().cpu()
                if self.reference is not None:
                    apart[rows] = self.reference.run(batch).heads.divergence(found.heads).double().cpu()
        self.divergence = apart[: len(own)]
        return logits[: len(own)], values[: len(own)]


def _padded(rows: int) -> int:
    return -(-rows // BLOCK) * BLOCK


def _stretched(boards: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Boards, and empty ones up to a multiple of the block."""
    return np.concatenate([boards, np.zeros(_padded(len(boards)) - len(boards), np.uint64)])
