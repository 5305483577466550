"""How much other processes keep the machine busy, so that a measurement they disturb can be told from a sound one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

STATISTICS = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6)
"""Fields of the first line: user, nice, system, interrupts, soft interrupts."""

TIMES = slice(11, 15)
"""Fields of a process's statistics, after its name: user and system, its own and those of its ended children."""

DISTURBANCE = 0.2
"""Cores that others may use during a measurement."""


def undisturbed(way: Callable[[], float], deadline: float) -> float:
    """What the way returns; until the deadline (of `time.monotonic`) it is run again whenever others disturb it."""
    while True:
        start, others = time.monotonic(), _seconds_of_others()
        result = way()
        end = time.monotonic()
        if end >= deadline or _seconds_of_others() - others < DISTURBANCE * (end - start):
            return result


def _seconds_of_others() -> float:
    """Processor seconds that processes but this one and its children have used so far; 0 where it is not told."""
    if not STATISTICS.exists():
        return 0.0
    fields = STATISTICS.read_text(encoding="ascii").splitlines()[0].split()[1:]
    total = sum(int(fields[place]) for place in BUSY) / os.sysconf("SC_CLK_TCK")
    return total - sum(os.times()[:4]) - _seconds_of_living_children()


def _seconds_of_living_children() -> float:
    """`os.times` counts children that have ended; this, those that have not."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            fields = Path("/proc", child, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[TIMES])
    return ticks / os.sysconf("SC_CLK_TCK")
