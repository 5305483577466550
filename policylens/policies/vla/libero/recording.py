"""How demonstrations are recorded. Free of heavy imports, for the workflow uses it."""

from __future__ import annotations

from dataclasses import dataclass

LOOKS = ("libero", "plain")
"""How pictures are drawn: as LIBERO does, or without reflections and antialiasing, 3 times as fast on a CPU."""


@dataclass(frozen=True)
class Settings:
    """How demonstrations are recorded.

    episodes: attempts, from the initial states 0, 1, ...; those that fail are left out. noise: standard deviation of
    what is added to the expert's six movements (actions are in [-1, 1]). size: height and width of the pictures.
    look: one of LOOKS. horizon: steps after which an attempt has failed. seed: of initial states and noise.
    """

    episodes: int
    noise: float = 0.15
    size: int = 128
    look: str = LOOKS[0]
    horizon: int = 250
    seed: int = 0
