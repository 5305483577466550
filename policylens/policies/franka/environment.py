"""Rollouts: a policy opens drawers, as whole episodes with the simulator's state at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from policylens.errors import UserError
from policylens.policies.franka.play import Episode, PlaySettings, acting, play
from policylens.policies.protocol import Policy
from policylens.policies.rollout import Rollout

DEFAULTS: dict[str, Any] = {"horizon": 300, "hold": 10, "sample": False, "noise": 0.0, "lanes": 32}
CHUNK = 64  # episodes handed over at once
STEP_ARRAYS = ("observations", "action", "reward", "finger_contact", "qpos", "qvel", "cabinet_position", "value")


def rollout(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, threads: int = 1
) -> Iterator[Rollout]:
    """Let the policy play the numbered episodes; yields them in order, some at a time.

    settings (all optional): see PlaySettings; an episode is the same whatever the number of lanes.

    steps: episode int64, step int32, observations float32 (n, 23) and action float32 (n, 9) as layout.py says, the
    action before it is clamped; reward float32; finger_contact bool (n, 2), the left and right finger on the handle;
    value float32, as the policy gives it; qpos and qvel float64 (n, 11), cabinet_position float64 (n, 3): the state,
    for Simulator.restore.
    episodes: episode int64, length int32, success bool, opened_after int32 (steps until the drawer was open, -1 if it
    never was), return float64 (sum of rewards).
    """
    torch.set_num_threads(threads)
    wanted, act = parsed(settings), acting(policy)
    for start in range(0, len(episodes), CHUNK):
        found = play(act, wanted, episodes[start : start + CHUNK], "rollout", seed)
        yield _rollout(sorted(found, key=lambda episode: episode.number))


def parsed(settings: Mapping[str, Any]) -> PlaySettings:
    """The settings with their defaults; UserError for an unknown one."""
    if unknown := sorted(settings.keys() - DEFAULTS.keys()):
        raise UserError(f"unknown rollout settings {', '.join(unknown)}; there are {', '.join(sorted(DEFAULTS))}")
    return PlaySettings(**{**DEFAULTS, **settings})


def _rollout(found: Sequence[Episode]) -> Rollout:
    parts = [episode.arrays() for episode in found]
    lengths = [episode.length for episode in found]
    numbers = np.array([episode.number for episode in found], np.int64)
    steps = {name: np.concatenate([part[name] for part in parts]) for name in STEP_ARRAYS}
    return Rollout(
        steps={
            "episode": np.repeat(numbers, lengths),
            "step": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            **steps,
        },
        episodes={
            "episode": numbers,
            "length": np.array(lengths, np.int32),
            "success": np.array([episode.opened_after is not None for episode in found]),
            "opened_after": np.array([-1 if e.opened_after is None else e.opened_after for e in found], np.int32),
            "return": np.array([part["reward"].sum(dtype=np.float64) for part in parts]),
        },
    )
