"""What a policy achieves in the simulator, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.family import DIVERGENCE
from policylens.policies.franka.environment import parsed
from policylens.policies.franka.labels import PULLED
from policylens.policies.franka.layout import distance_to_handle, drawer_position
from policylens.policies.franka.play import Episode, acting, play
from policylens.policies.protocol import Policy

TASK = "drawer"


def returns(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, reference: Policy | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """{"drawer": measure -> float64 (episodes,)}, in the order of `episodes`.

    settings: see environment.DEFAULTS. Measures are those of family.py; `divergence` is there with a reference, which
    is asked at every step and does not act. The start and all random numbers follow from seed and number of the
    episode, so that the same episodes of two policies are pairs.
    """
    wanted = parsed(settings)
    act = acting(policy, reference)
    found = {
        episode.number: _measures(episode, wanted.horizon)
        for episode in play(act, wanted, list(episodes), "returns", seed)
    }
    names = [name for name in next(iter(found.values()), {}) if reference is not None or name != DIVERGENCE]
    return {TASK: {name: np.array([found[number][name] for number in episodes], np.float64) for name in names}}


def _measures(episode: Episode, horizon: int) -> dict[str, float]:
    steps = episode.arrays()
    opening = drawer_position(np.concatenate([steps["observations"], episode.observation[None]])).max()
    return {
        "return": steps["reward"].sum(dtype=np.float64),
        "success": episode.opened_after is not None,
        "steps": horizon if episode.opened_after is None else episode.opened_after,
        "touched": steps["finger_contact"].any(),
        "pulled": opening > PULLED,
        "opening": opening,
        "closest": distance_to_handle(steps["observations"]).min(),
        DIVERGENCE: steps["divergence"].mean(dtype=np.float64),
    }
