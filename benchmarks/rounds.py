"""Timing several ways of doing something side by side, so that a busy machine is unfair to none of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from policylens.progress import progress


@dataclass(frozen=True)
class Ratio:
    """A ratio measured once per round: its median, and the smallest and largest seen."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def interleaved(ways: Mapping[str, Callable[[], float]], rounds: int, what: str) -> dict[str, list[float]]:
    """Per way what it returned in each round (seconds). Every round runs all ways, each time beginning with another."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in progress(range(rounds), rounds, what, "rounds"):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            measured[name].append(ways[name]())
    return measured


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """A function that runs the call and returns its wall-clock seconds."""

    def run() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return run


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """above / below, round by round."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
