"""What the numbers of an observation and of an action are, and what follows from them alone. Needs no simulator.

observation, float32 (23,), in the layout of the published checkpoint:

    0-8    positions of the arm's 7 joints and the 2 fingers, their range scaled to [-1, 1]
    9-17   their velocities, times 0.1 (rad/s, m/s)
    18-20  from the point between the fingertips to the drawer's handle (m): x away from the arm, y to its left, z up
    21     how far the drawer is open (m), 0 to 0.40
    22     the drawer's velocity (m/s), positive while it opens

action, float32 (9,): where the 9 joints' controllers aim, relative to where the joints are, in units of 0.2 rad
(fingers: 0.02 m), clamped to [-1, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OBSERVATIONS, ACTIONS = 23, 9
JOINT_POSITIONS, JOINT_VELOCITIES, TO_HANDLE = slice(0, 9), slice(9, 18), slice(18, 21)
DRAWER_POSITION, DRAWER_VELOCITY = 21, 22
VELOCITY_SCALE = 0.1
OPEN = 0.30
"""The drawer counts as open beyond this (m): success."""

CLOSENESS_SHARE = 0.25
CLOSENESS_RATE = 10.0


def distance_to_handle(observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """From the point between the fingertips to the handle, in metres: (..., 23) -> (...)."""
    return np.linalg.norm(observations[..., TO_HANDLE], axis=-1)


def drawer_position(observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the drawer is open, in metres: (..., 23) -> (...)."""
    return observations[..., DRAWER_POSITION]


def is_open(observations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the drawer counts as open: (..., 23) -> (...)."""
    return drawer_position(observations) > OPEN


def progress(observations: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far the task has come, 0 to 1: (..., 23) -> (...). A reward is how much of it a step adds.

    A quarter for the hand's closeness to the handle, 1 / (1 + 10 distance); three quarters for the drawer, up to OPEN.
    """
    observations = observations.astype(np.float64)
    closeness = 1 / (1 + CLOSENESS_RATE * distance_to_handle(observations))
    opened = np.clip(drawer_position(observations) / OPEN, 0, 1)
    return CLOSENESS_SHARE * closeness + (1 - CLOSENESS_SHARE) * opened
