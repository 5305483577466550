"""How much other processes keep the machine busy, so that a measurement they disturb can be told from a sound one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

STATISTICS = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6)
"""Fields of the first line: user, nice, system, interrupts, soft interrupts."""

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
    """Processor seconds that all other processes have used since the start of the machine; 0 where it is not told."""
    if not STATISTICS.exists():
        return 0.0
    fields = STATISTICS.read_text(encoding="ascii").splitlines()[0].split()[1:]
    total = sum(int(fields[place]) for place in BUSY) / os.sysconf("SC_CLK_TCK")
    return total - sum(os.times()[:4])
