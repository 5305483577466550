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
from policylens.policies.othello.rules import ONE, SQUARES
from policylens.policies.othello.search import Evaluate

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
        planes = np.zeros((-(-len(own) // BLOCK) * BLOCK, PLANES), np.float32)
        fill_planes(own, opp, planes)
        with torch.inference_mode():
            blocks = torch.from_numpy(planes).to(dtype).split(BLOCK)
            logits, values = zip(*map(frozen, blocks), strict=True)
            logits, values = torch.cat(logits)[: len(own)].float(), torch.cat(values)[: len(own)].float()
        return logits.numpy(), values.numpy()

    return evaluate
