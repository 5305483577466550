"""What the scripts of all tasks share: how the hand comes down at a place, and what the gripper is told."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Axes of the hand as columns, when it points down as at the start of LIBERO's episodes."""


def leaning(ahead: float, left: float) -> NDArray[np.float64]:
    """Axes of the hand (3, 3) that points down and, by two angles (rad), away from the robot (world x) and along y."""
    sine, cosine = np.sin(ahead), np.cos(ahead)
    pitch = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    sine, cosine = np.sin(left), np.cos(left)
    roll = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    return roll @ pitch @ DOWN


class Aim(NamedTuple):
    """Where the hand is to go, target (3,) in m; grip: OPEN or CLOSE; axes: how it is to be turned, (3, 3)."""

    target: NDArray
    grip: float
    axes: NDArray = DOWN


UP = np.array([0.0, 0.0, 1.0])
OPEN, CLOSE = -1.0, 1.0
STEEP, HIGHEST = 3.0, 0.09
"""How much higher the funnel is per metre sideways, and the most (m)."""


def funnel(hand: NDArray, goal: NDArray, room: float) -> NDArray:
    """Where to move next to come down at `goal` from above; straight down within `room` (m) of it sideways."""
    aside = float(np.linalg.norm(hand[:2] - goal[:2]))
    height = goal[2] + np.clip(STEEP * (aside - room), 0.0, HIGHEST)
    share = 1.0 if hand[2] > height - 0.03 else 0.2  # too low: up first
    return np.array([*(hand[:2] + share * (goal[:2] - hand[:2])), height])
