"""Rollouts: a policy acts in LIBERO's simulator, as whole episodes of observations and actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from policylens.policies.protocol import Policy
from policylens.policies.rollout import Rollout
from policylens.policies.vla.play import Played, PlaySettings, play
from policylens.stores.texts import encode_text


def rollout(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, threads: int = 1
) -> Iterator[Rollout]:
    """Let the policy play the numbered episodes; yields them one at a time.

    settings (all optional): see PlaySettings. Episode e is task e % tasks from initial state e // tasks: each state is
    played with every instruction, and its episodes stand in one split (`group`).

    steps: episode int64, step int32, group uint64; the observation: image and wrist_image uint8 (n, size, size, 3),
    upright, state float32 (n, 8), instruction uint8 (n, 256); action float32 (n, 7), as executed; object_joint float32,
    the measure of the pair (m or rad); task int8, the number of the task.
    episodes: episode int64, length int32, success bool, opposite bool (the contrary was brought about), moved float64
    (how far the measure of the pair went the way of the instruction), initial_state int64, task int8.
    """
    torch.set_num_threads(threads)
    wanted = PlaySettings.of(settings, policy.record)
    tasks = wanted.tasks
    places = sorted(episodes, key=lambda number: (tasks[number % len(tasks)].pair.name, number))
    starts = [(tasks[number % len(tasks)], number // len(tasks)) for number in places]
    found = zip(places, play(policy, wanted, starts, "rollout", seed), strict=True)
    for number, played in sorted(found, key=lambda one: one[0]) if len(episodes) <= AT_ONCE else found:
        yield _rollout(number, number % len(tasks), played)


AT_ONCE = 64
"""So many episodes are put in the order of their numbers; more would take too much memory."""


def _rollout(number: int, task: int, played: Played) -> Rollout:
    columns, length = played.arrays(), played.length
    instruction = np.tile(encode_text(played.task.instruction), (length, 1))
    pair = int.from_bytes(played.task.pair.name.encode()[:4], "little")
    return Rollout(
        steps={
            "episode": np.full(length, number, np.int64),
            "step": np.arange(length, dtype=np.int32),
            "group": np.full(length, (pair << 32) + played.number, np.uint64),
            **{name: columns[name] for name in ("image", "wrist_image", "state", "action")},
            "object_joint": columns["object_joint"].astype(np.float32),
            "instruction": instruction,
            "task": np.full(length, task, np.int8),
        },
        episodes={
            "episode": np.array([number], np.int64),
            "length": np.array([length], np.int32),
            "success": np.array([played.fulfilled is not None]),
            "opposite": np.array([played.undone is not None]),
            "moved": np.array([played.moved], np.float64),
            "initial_state": np.array([played.number], np.int64),
            "task": np.array([task], np.int8),
        },
    )
