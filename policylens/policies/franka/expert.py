"""A scripted expert: approach, close the fingers around the handle, pull, by damped least-squares inverse kinematics.

What it does follows from the simulator's state alone, so that it can be asked for its action wherever another policy
has brought the arm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policylens.policies.franka.simulator import HOME, SCALE, Simulator

FACING = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Axes of the hand as columns: it looks along x, its fingers one above the other."""

BEFORE_HANDLE = 0.09  # metres: where the hand lines up
DAMPING = 2e-3
GAIN = 6.5  # of the position controllers: a target this much further makes the joint move as wanted in 20 ms
FASTEST, FASTEST_TURN = 0.018, 0.06  # metres and radians per step
PULL = 0.008  # metres per step
OPEN_FINGERS, CLOSED_FINGERS = 0.025, 0.016  # metres of each finger: above, below which they count as such


def expert(simulator: Simulator) -> NDArray[np.float32]:
    """The expert's action in a simulator's state, float32 (9,) in [-1, 1]."""
    data = simulator.data
    to_handle = data.site_xpos[simulator.handle] - data.site_xpos[simulator.hand]
    axes = data.site_xmat[simulator.hand].reshape(3, 3)
    turn = 0.5 * np.cross(axes, FACING, axisa=0, axisb=0, axisc=0).sum(axis=1)
    fingers = data.qpos[simulator.qpos[7:]].mean()
    move, grip = _wanted(to_handle, float(np.linalg.norm(turn)), fingers)
    twist = np.concatenate([_limited(move, FASTEST), _limited(0.15 * turn, FASTEST_TURN)])
    joints = _joints(simulator, twist)
    return np.clip(np.concatenate([GAIN * joints / SCALE[:7], [grip, grip]]), -1, 1).astype(np.float32)


def _wanted(to_handle: NDArray, turn: float, fingers: float) -> tuple[NDArray, float]:
    """How the hand should move in this step (m), and what the fingers should do: 1 open, -1 close."""
    x, y, z = to_handle
    aligned = abs(z) < 0.012 and abs(y) < 0.04 and turn < 0.12
    if x > 0.03 and not aligned and fingers > OPEN_FINGERS:  # line up before the handle
        return 0.12 * np.array([np.clip(x - BEFORE_HANDLE, -0.2, 0.2), y, z]), 1.0
    if x > 0.012 and fingers > OPEN_FINGERS:  # go straight in
        return np.array([max(0.12 * x, 0.006), 0.12 * y, 0.12 * z]), 1.0
    if fingers > CLOSED_FINGERS:
        return 0.08 * to_handle, -1.0
    return np.array([-PULL, 0.05 * y, 0.05 * z]), -1.0


def _limited(vector: NDArray, longest: float) -> NDArray:
    return vector * min(1.0, longest / (np.linalg.norm(vector) + 1e-9))


def _joints(simulator: Simulator, twist: NDArray) -> NDArray:
    """Movement of the arm's joints (7,) that gives the hand a twist (6,), the rest of it towards HOME."""
    jacobian = simulator.jacobian()
    inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING * np.eye(6))
    home = 0.01 * (HOME - simulator.data.qpos[simulator.qpos[:7]])
    return inverse @ twist + (np.eye(7) - inverse @ jacobian) @ home
