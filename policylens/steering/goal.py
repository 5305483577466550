"""What steering is to reach, and what it is to leave alone; which candidates do best at that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policylens.policies.family import DIVERGENCE

Results = Mapping[str, np.ndarray]
"""Measure -> (runs, episodes), the mean over tasks; the first run is the policy as it is."""


@dataclass(frozen=True)
class Goal:
    """measure: what is to change. change: "lower" or "higher".

    keep: measure -> how far its mean may move at most, in either direction; for `divergence`: how large it may be.
    least: the least gain that counts, in the measure's unit; at 0 any gain does. It decides verdicts, and no choice.
    """

    measure: str
    change: str = "lower"
    keep: Mapping[str, float] = field(default_factory=dict)
    least: float = 0.0

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.change == "higher" else -1

    def gains(self, results: Results) -> np.ndarray:
        """How far each run is beyond the first, towards the goal: (runs,) in the measure's unit, negative if away."""
        means = results[self.measure].mean(axis=1)
        return self.sign * (means - means[0])

    def kept(self, results: Results) -> np.ndarray:
        """Whether each run leaves alone what it is to leave alone, by its means: (runs,) bool."""
        found = np.ones(len(results[self.measure]), bool)
        for name, tolerance in self.keep.items():
            means = results[name].mean(axis=1)
            found &= np.abs(means - (0 if name == DIVERGENCE else means[0])) <= tolerance
        return found


def goal_of(block: Mapping[str, Any]) -> Goal:
    """As config.yaml has it."""
    return Goal(block["measure"], block.get("change", "lower"), dict(block.get("keep", {})), block.get("least", 0.0))


def choose(goal: Goal, results: Results, targets: Sequence[str], count: int) -> list[int]:
    """Places of the candidates to confirm, best first: those that keep what they are to keep, by gain.

    results: of the policy as it is, then of every candidate. targets: (candidates,) what each steers; of each only its
    best move is taken. A candidate without a gain is not taken; ties go to the one that disturbs less, then to the
    first.
    """
    gains, kept = goal.gains(results)[1:], goal.kept(results)[1:]
    disturbance = results[DIVERGENCE].mean(axis=1)[1:]
    taken: list[int] = []
    for place in np.lexsort((np.arange(len(gains)), disturbance, -gains)):
        another = targets[place] in {targets[other] for other in taken}
        if len(taken) < count and kept[place] and gains[place] > 0 and not another:
            taken.append(int(place))
    return taken
