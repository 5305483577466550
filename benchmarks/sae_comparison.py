"""What runs of several tools say side by side: rates, times to a common quality, ratios. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Curve = Sequence[Mapping[str, float]]
Run = Mapping[str, Any]

L0_SLACK = 1.05
QUALITY_SHARE = 0.98
L0_AGREEMENT = 1.15
SPARSE_SHARE = 0.1


def rows_per_second(run: Run, batch_rows: int) -> float:
    """Training rows per second over the steps after the run's first `warm_steps`."""
    seconds, warm_steps = run["seconds"], run["warm_steps"]
    if not 0 < warm_steps < len(seconds):
        raise ValueError(f"{warm_steps} steps to warm up leave nothing of {len(seconds)}")
    return batch_rows * (len(seconds) - warm_steps) / (seconds[-1] - seconds[warm_steps - 1])


def seconds_to(curve: Curve, quality: float, l0: float) -> float | None:
    """First training second at which explained variance is at least `quality` and L0 at most `l0`, or None.

    curve: measurements in the order of time; both quantities are taken as linear between them.
    """
    if _meets(curve[0], quality, l0):
        return curve[0]["seconds"]
    for before, after in zip(curve, curve[1:], strict=False):
        first, last = _part(before, after, quality, l0)
        if first <= last:
            return before["seconds"] + first * (after["seconds"] - before["seconds"])
    return None


def _meets(point: Mapping[str, float], quality: float, l0: float) -> bool:
    return point["explained_variance"] >= quality and point["l0"] <= l0


def _part(before: Mapping[str, float], after: Mapping[str, float], quality: float, l0: float) -> tuple[float, float]:
    """Between which shares of the way from one measurement to the next both conditions hold; (1, 0) if nowhere."""
    bounds = [
        _at_least(before["explained_variance"] - quality, after["explained_variance"] - quality),
        _at_least(l0 - before["l0"], l0 - after["l0"]),
    ]
    return max(first for first, _ in bounds), min(last for _, last in bounds)


def _at_least(start: float, end: float) -> tuple[float, float]:
    """Shares between which a line from `start` at 0 to `end` at 1 is not negative; (1, 0) if nowhere."""
    if start >= 0 and end >= 0:
        return 0.0, 1.0
    if start < 0 and end < 0:
        return 1.0, 0.0
    crossing = start / (start - end)
    return (0.0, crossing) if start >= 0 else (crossing, 1.0)


def common_goal(curves: Sequence[Curve]) -> tuple[float, float]:
    """(quality, L0) that every run of a round reaches: a little under the worst end, at a little over the largest L0.

    Since the goal is under the end of every run, how near to its own limit each tool comes matters little.
    """
    last = [curve[-1] for curve in curves]
    quality = min(point["explained_variance"] for point in last)
    return quality - (1 - QUALITY_SHARE) * abs(quality), L0_SLACK * max(point["l0"] for point in last)


def doubt(curves: Sequence[Curve], latents: int) -> str:
    """Why a round's times to its common goal say nothing about sparse codes, or "" if they do."""
    last = [curve[-1]["l0"] for curve in curves]
    if max(last) > SPARSE_SHARE * latents:
        return f"at the end up to {max(last):.0f} of {latents} latents are still active: more steps are needed"
    if max(last) > L0_AGREEMENT * min(last):
        return f"the L0 at the end differ, from {min(last):.1f} to {max(last):.1f}: more steps are needed"
    return ""
