"""What a family's environment hands over: whole episodes, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rollout:
    """Some whole episodes.

    steps: name -> (rows, ...) with at least `episode` (int64) and `step` (int32), rows of an episode together and
        in order; the family's observations; whatever else the environment knows. `group` (uint64), if there, names
        rows that are nearly the same (a symmetry class): splits never share a group.
    episodes: name -> (episodes, ...) with at least `episode` and `length`.
    origin: the file that it was read from, for messages; None where a policy played.
    """

    steps: dict[str, np.ndarray]
    episodes: dict[str, np.ndarray]
    origin: str | None = None
