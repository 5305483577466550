"""What a policy achieves in LIBERO's simulator, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.family import DIVERGENCE
from policylens.policies.protocol import Policy
from policylens.policies.vla.play import Played, PlaySettings, play


def returns(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, reference: Policy | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """{task: measure -> float64 (episodes,)}, in the order of `episodes`: each initial state with each instruction.

    settings: see PlaySettings. Tasks are called by their slugs; measures are those of manifest.py, and `divergence`
    with a reference.
    A pair's two tasks have the same initial states and the same random numbers.
    """
    wanted = PlaySettings.of(settings, policy.record)
    starts = [(task, number) for task in wanted.tasks for number in episodes]
    found: dict[str, list[dict[str, float]]] = {}
    for played in play(policy, wanted, starts, "returns", seed, reference):
        found.setdefault(played.task.slug, []).append(measured(played, wanted.horizon, reference is not None))
    return {
        task: {name: np.array([one[name] for one in each], np.float64) for name in each[0]}
        for task, each in found.items()
    }


def measured(played: Played, horizon: int, with_reference: bool) -> dict[str, float]:
    """An episode's measures."""
    fulfilled = played.fulfilled is not None
    values = {
        "return": fulfilled,
        "success": fulfilled,
        "opposite": played.undone is not None,
        "moved": played.moved,
        "steps": played.fulfilled if fulfilled else horizon,
    }
    return values | ({DIVERGENCE: float(np.mean(played.divergence))} if with_reference else {})
