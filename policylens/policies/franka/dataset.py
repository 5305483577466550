"""What training learns from: every state that has been visited, the expert's action there, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from policylens.policies.franka.layout import ACTIONS, OBSERVATIONS
from policylens.policies.franka.play import Episode

FIELDS = {
    "observations": (np.float32, (OBSERVATIONS,)),
    "taught": (np.float32, (ACTIONS,)),
    "returns": (np.float32, ()),
    "iteration": (np.int32, ()),
    "noisy": (np.bool_, ()),
}


def discounted(rewards: NDArray[np.float32], discount: float) -> NDArray[np.float32]:
    """Discounted sums of the rewards that follow, own step included: (n,) -> (n,). Nothing follows the last."""
    found, following = np.empty(len(rewards), np.float64), 0.0
    for step in range(len(rewards) - 1, -1, -1):
        found[step] = following = rewards[step] + discount * following
    return found.astype(np.float32)


class Dataset:
    """Visited states.

    columns: observations float32 (n, 23); taught float32 (n, 9), the expert's action; returns float32 (n,),
    discounted; iteration int32 (n,) in which they were visited, 0 by the expert; noisy bool (n,), actions had noise.
    """

    def __init__(self, columns: Mapping[str, NDArray] | None = None) -> None:
        empty = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in FIELDS.items()}
        self.columns: dict[str, NDArray] = dict(columns) if columns is not None else empty

    def __len__(self) -> int:
        return len(self.columns["returns"])

    def add(self, episodes: Iterable[Episode], discount: float, iteration: int, noisy: bool) -> float:
        """Append finished episodes; returns the share of them that opened the drawer."""
        found = sorted(episodes, key=lambda episode: episode.number)
        pieces: dict[str, list[NDArray]] = {name: [values] for name, values in self.columns.items()}
        for episode in found:
            arrays, length = episode.arrays(), episode.length
            pieces["observations"].append(arrays["observations"])
            pieces["taught"].append(arrays["taught"])
            pieces["returns"].append(discounted(arrays["reward"], discount))
            pieces["iteration"].append(np.full(length, iteration, np.int32))
            pieces["noisy"].append(np.full(length, noisy))
        self.columns = {name: np.concatenate(values) for name, values in pieces.items()}
        return sum(episode.opened_after is not None for episode in found) / len(found)

    def own_rows(self, iterations: int) -> NDArray[np.int64]:
        """Rows that the policy visited without noise in the latest `iterations`; the expert's while there are none."""
        iteration = self.columns["iteration"]
        own = (iteration > max(0, int(iteration.max()) - iterations)) & ~self.columns["noisy"]
        return np.flatnonzero(own if own.any() else iteration == 0)
