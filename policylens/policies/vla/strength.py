"""How well a policy does what it is told: each initial state with each instruction of its pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policylens.policies.protocol import Policy
from policylens.policies.vla.play import PlaySettings, play
from policylens.policies.vla.returns import measured
from policylens.statistics.intervals import cluster_bootstrap
from policylens.statistics.resampling import Resampling

EPISODES = 50


def evaluate(policy: Policy, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """{task: {...}, pair: {...}}: per task and per pair of opposite tasks.

    settings: episodes, initial states of each pair; and those of PlaySettings. Per task: successes of n; opposite, of
    how many the contrary was brought about; moved, mean with an interval over initial states. Per pair successes:
    of n states those in which either instruction was fulfilled; `swapped`: how much further the pair's measure went
    with the one instruction than with the other on the same initial state, mean with an interval (m or rad).
    """
    count = settings.get("episodes", EPISODES)
    wanted = PlaySettings.of({name: value for name, value in settings.items() if name != "episodes"}, policy.record)
    starts = [(task, number) for task in wanted.tasks for number in range(count)]
    found: dict[str, list[dict[str, float]]] = {}
    for played in play(policy, wanted, starts, "strength", seed):
        found.setdefault(played.task.slug, []).append(measured(played, wanted.horizon, False))
    numbers, resampling = np.arange(count), Resampling(seed=seed)

    def of(slug: str, name: str) -> np.ndarray:
        return np.array([one[name] for one in found[slug]], np.float64)

    record: dict[str, Any] = {}
    for slug in found:
        record[slug] = {
            "successes": int(of(slug, "success").sum()),
            "opposite": int(of(slug, "opposite").sum()),
            "n": count,
            "moved": cluster_bootstrap(of(slug, "moved"), numbers, resampling).record(),
        }
    for pair in wanted.pairs:
        slugs = [task.slug for task in wanted.tasks if task.pair.name == pair]
        if len(slugs) < 2:
            continue
        first, second = slugs
        apart = of(first, "moved") + of(second, "moved")
        obeyed = of(first, "success") * of(second, "success")
        record[pair] = {
            "successes": int(obeyed.sum()),
            "n": count,
            "swapped": cluster_bootstrap(apart, numbers, resampling).record(),
        }
    return record
