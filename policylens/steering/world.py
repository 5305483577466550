"""A policy in its environment, run with edits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.policies.editing import Edited
from policylens.policies.protocol import Edit, Policy

Returns = Callable[..., Mapping[str, Mapping[str, np.ndarray]]]
"""A family's `returns`."""

Measured = dict[str, np.ndarray]
""" "task/measure" -> float64 (episodes,)."""


@dataclass(frozen=True)
class World:
    """settings: of the family's `returns`. seed: of initial states and the environment's randomness."""

    policy: Policy
    returns: Returns
    settings: Mapping[str, Any]
    seed: int

    def run(self, edits: Mapping[str, Edit], episodes: Sequence[int]) -> Measured:
        """The numbered episodes with edits in every pass; the policy without them is asked at every decision."""
        edited = Edited(self.policy, edits)
        found = self.returns(edited, self.settings, episodes, self.seed, reference=self.policy)
        return {f"{task}/{name}": values for task, measures in found.items() for name, values in measures.items()}


def stacked(runs: Sequence[Measured]) -> dict[str, np.ndarray]:
    """Measure -> (runs, tasks, episodes), of runs of the same episodes."""
    return {
        measure: np.stack([np.stack([run[f"{task}/{measure}"] for task in tasks_of(run)]) for run in runs])
        for measure in dict.fromkeys(name.partition("/")[2] for name in runs[0])
    }


def tasks_of(run: Measured) -> list[str]:
    """Names of the tasks, in order."""
    return list(dict.fromkeys(name.partition("/")[0] for name in run))


def mean_of_tasks(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(runs, tasks, episodes) as (runs, episodes)."""
    return {name: values.mean(axis=1) for name, values in results.items()}
