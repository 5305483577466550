"""Closed loops: an episode of one task, with observations as policies for LIBERO take them."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policylens.policies.vla.libero.orientation import upright
from policylens.policies.vla.libero.simulator import CAMERAS, Simulator
from policylens.policies.vla.libero.tasks import PAIRS, TASKS, Task


class Episode:
    """One simulator at a time, whatever the pair; start with `reset`.

    size: height and width of the pictures, None for observations without. look: see simulator.LOOKS.
    """

    def __init__(self, size: int | None = None, look: str = "libero", assets: str | None = None) -> None:
        """assets: LIBERO's meshes, see find_assets."""
        self.size, self.look, self.assets = size, look, assets
        self._simulator: Simulator | None = None
        self._task: Task | None = None

    @property
    def simulator(self) -> Simulator:
        """The simulator of the running episode."""
        if self._simulator is None:
            raise RuntimeError("no episode runs: call reset first")
        return self._simulator

    def reset(self, task: Task, seed: int, number: int) -> dict[str, Any]:
        """Start a task from the initial state (its pair, seed, number); returns the first observation."""
        if self._simulator is None or self._simulator.task.pair is not task.pair:
            self.close()
            # The pair's scene is made from its first task, so that both tasks' episodes are the same to the bit.
            first = next(other for other in TASKS.values() if other.pair is PAIRS[task.pair.name])
            self._simulator = Simulator(first, self.size, self.look, self.assets)
        self._task = task
        self._simulator.reset(seed, number)
        return self.observation()

    def step(self, action: NDArray) -> dict[str, Any]:
        """Hold an action (7,) in [-1, 1] for 50 ms; returns the observation after it."""
        self.simulator.step(action)
        return self.observation()

    def observation(self) -> dict[str, Any]:
        """image, wrist_image: uint8 (size, size, 3), as `upright` turns them, with cameras only.

        state: float32 (8,), see state_of. instruction: str.
        """
        raw = self.simulator.raw
        assert self._task is not None
        found: dict[str, Any] = {"state": state_of(raw), "instruction": self._task.instruction}
        if self.size is not None:
            found |= {name: upright(raw[f"{camera}_image"]) for name, camera in CAMERAS.items()}
        return found

    def success(self, task: Task | None = None) -> bool:
        """Whether a task of the running pair has succeeded in this state; by default the episode's own."""
        task = task or self._task
        assert task is not None
        return self.simulator.success(task)

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None
            gc.collect()  # the renderer too, while there is still a display to take leave of


def state_of(raw: dict[str, Any]) -> NDArray[np.float32]:
    """The state that LIBERO policies take, float32 (8,).

    Position of the hand (m), its rotation as axis times angle (rad), positions of the two fingers (m).
    """
    return np.concatenate(
        [raw["robot0_eef_pos"], axis_angle(raw["robot0_eef_quat"]), raw["robot0_gripper_qpos"]]
    ).astype(np.float32)


def axis_angle(quaternion: NDArray) -> NDArray[np.float64]:
    """Axis times angle (3,) of a quaternion (x, y, z, w), with the angle in [0, 2 pi], as robosuite and lerobot do."""
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    sine = np.sqrt(1.0 - w * w)
    if sine < 1e-10:
        return np.zeros(3)
    return np.asarray(quaternion[:3], np.float64) * 2.0 * np.arccos(w) / sine
