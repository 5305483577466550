"""What a policy achieves in the simulator, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.franka.environment import parsed
from policylens.policies.franka.play import acting, play
from policylens.policies.protocol import Policy

TASK = "drawer"


def returns(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """{"drawer": measure -> float64 (episodes,)}, in the order of `episodes`.

    settings: see environment.DEFAULTS. return: sum of rewards, the progress from start to end. success: 1 if the
    drawer has been opened. steps: until it was open; the horizon where it never was. The start and all random
    numbers follow from seed and number of the episode, so that the same episodes of two policies are pairs.
    """
    wanted = parsed(settings)
    found = {episode.number: episode for episode in play(acting(policy), wanted, list(episodes), "returns", seed)}
    ordered = [found[number] for number in episodes]
    steps = [wanted.horizon if episode.opened_after is None else episode.opened_after for episode in ordered]
    measures = {
        "return": [np.sum(episode.columns["reward"], dtype=np.float64) for episode in ordered],
        "success": [episode.opened_after is not None for episode in ordered],
        "steps": steps,
    }
    return {TASK: {name: np.array(values, np.float64) for name, values in measures.items()}}
