"""Demonstrations: the scripted expert, with noise on what it does, recorded as LIBERO records its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policylens.policies.vla.libero.episode import axis_angle
from policylens.policies.vla.libero.expert import expert
from policylens.policies.vla.libero.recording import Settings
from policylens.policies.vla.libero.simulator import CAMERAS, Simulator
from policylens.policies.vla.libero.tasks import Task


@dataclass(frozen=True)
class Demonstration:
    """One successful attempt of n steps.

    number: of its initial state. What is by step: states float64 (n, k) before the step; actions float64 (n, 7), as
    executed; expert_actions float64 (n, 7), what the expert wanted in that state; obs, LIBERO's arrays after the step.
    model: the scene as MJCF.
    """

    number: int
    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    expert_actions: NDArray[np.float64]
    robot_states: NDArray[np.float64]
    obs: Mapping[str, NDArray]
    model: str


def record(simulator: Simulator, task: Task, settings: Settings) -> Iterator[Demonstration | int]:
    """Attempt a task from every initial state; yields demonstrations, and the number of a state where it failed.

    simulator: with cameras of settings.size, of the task's pair.
    """
    for number in range(settings.episodes):
        found = _attempt(simulator, task, settings, number)
        yield number if found is None else found


def _attempt(simulator: Simulator, task: Task, settings: Settings, number: int) -> Demonstration | None:
    generator = np.random.default_rng([settings.seed, number, *task.slug.encode()])
    simulator.reset(settings.seed, number)
    steps: dict[str, list[Any]] = {name: [] for name in ("states", "actions", "expert_actions", "raw", "measure")}
    for _ in range(settings.horizon):
        wanted = expert(simulator, task)
        action = wanted.copy()
        action[:6] = np.clip(action[:6] + settings.noise * generator.standard_normal(6), -1, 1)
        steps["states"].append(simulator.state())
        steps["expert_actions"].append(wanted)
        steps["actions"].append(action)
        steps["raw"].append(simulator.step(action))
        steps["measure"].append(simulator.measure())
        if simulator.success(task):
            return _demonstration(simulator, number, steps)
    return None


def _demonstration(simulator: Simulator, number: int, steps: Mapping[str, list[Any]]) -> Demonstration:
    raw = steps["raw"]
    return Demonstration(
        number=number,
        states=np.stack(steps["states"]),
        actions=np.stack(steps["actions"]),
        expert_actions=np.stack(steps["expert_actions"]),
        robot_states=np.stack([simulator.env.get_robot_state_vector(found) for found in raw]),
        obs=_observations(raw) | {"object_joint": np.array(steps["measure"])},
        model=simulator.xml(),
    )


def _observations(raw: list[dict[str, Any]]) -> dict[str, NDArray]:
    """LIBERO's arrays of observations, under its names; pictures stand on their heads there."""
    turns = np.stack([axis_angle(found["robot0_eef_quat"]) for found in raw])
    places = np.stack([found["robot0_eef_pos"] for found in raw])
    return {
        "agentview_rgb": np.stack([found[f"{CAMERAS['image']}_image"] for found in raw]),
        "eye_in_hand_rgb": np.stack([found[f"{CAMERAS['wrist_image']}_image"] for found in raw]),
        "ee_states": np.concatenate([places, turns], axis=1),
        "ee_pos": places,
        "ee_ori": turns,
        "gripper_states": np.stack([found["robot0_gripper_qpos"] for found in raw]),
        "joint_states": np.stack([found["robot0_joint_pos"] for found in raw]),
    }
