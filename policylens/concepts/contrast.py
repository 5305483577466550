"""Contrasts: two concepts told apart by the way that demonstrations move, and the windows in which they do.

An axis is a dimension of a state along which demonstrations of the one concept end up on one side of where they began,
and those of the other on the other. A window is the part of a demonstration from the first to the last step that lies
far from its beginning along the axis. Rules, numbers and file format follow the published manifests of "Mechanistic
Interpretability for Steering Vision-Language-Action Models" (github.com/x64-bit/vla-mech-interp); docs/contrasts.md
says what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.errors import UserError

RULES = ("difference", "effect")
SLIGHT = 1e-9
"""Added to the pooled deviation, as published: where nothing varies an effect is large, not infinite."""

STILL = 1e-6
"""A displacement below this is none."""


@dataclass(frozen=True, eq=False)
class Demo:
    """One demonstration.

    episode: its number. file, name: of it in the dataset. states: (steps, dimensions) float64. start: its first frame's
    place in the dataset. group: of demonstrations with the same beginning; None where the dataset does not say.
    """

    episode: int
    file: str
    name: str
    states: np.ndarray
    start: int
    group: int | None = None


@dataclass(frozen=True, eq=False)
class Moves:
    """How far demonstrations move in each dimension, last state less first. Arrays (dimensions,), float64.

    means: of the positive and of the negative concept. difference: of the means. effect: that over the pooled
    deviation, sqrt((var + var) / 2), variances with n in the denominator.
    """

    means: tuple[np.ndarray, np.ndarray]
    difference: np.ndarray
    effect: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, negative: np.ndarray) -> Moves:
        """positive, negative: (demos, dimensions) displacements."""
        means = positive.mean(axis=0), negative.mean(axis=0)
        difference = means[0] - means[1]
        pooled = np.sqrt(0.5 * (positive.std(axis=0) ** 2 + negative.std(axis=0) ** 2))
        return cls(means, difference, difference / (pooled + SLIGHT))

    def opposed(self, minimum: float) -> np.ndarray:
        """Dimensions, bool (dimensions,), in which the means have opposite signs and are at least `minimum` in size."""
        first, second = self.means
        return (np.sign(first) * np.sign(second) < 0) & (np.minimum(np.abs(first), np.abs(second)) >= minimum)


def displacements(demos: Sequence[Demo]) -> np.ndarray:
    """Last state less first, (demos, dimensions)."""
    return np.stack([demo.states[-1] - demo.states[0] for demo in demos])


def best_axis(moves: Moves, rule: str, minimum: float, candidates: Sequence[int] | None = None) -> int | None:
    """The dimension with the largest |difference of means| or |effect| among those that are opposed; None if none is.

    rule: "difference" (as the published code chooses) or "effect" (as its text says). candidates: to choose among.
    """
    fits = moves.opposed(minimum)
    if candidates is not None:
        fits &= np.isin(np.arange(len(fits)), candidates)
    size = np.abs(moves.difference if rule == "difference" else moves.effect)
    order = np.argsort(size)[::-1]
    return next((int(axis) for axis in order if fits[axis]), None)


def choose_axis(moves: Moves, rule: str, minimum: float, candidates: Sequence[int] | None = None) -> int:
    """As :func:`best_axis`; UserError that tells the largest means where no dimension will do."""
    dimensions = len(moves.difference)
    beyond = [axis for axis in candidates or () if axis >= dimensions]
    if beyond:
        raise UserError(f"the state has dimensions 0 to {dimensions - 1}, not {beyond[0]}; correct dimensions")
    axis = best_axis(moves, rule, minimum, candidates)
    if axis is None:
        likely = int(np.argmax(np.abs(moves.difference)))
        means = " and ".join(f"{mean[likely]:.3g}" for mean in moves.means)
        raise UserError(
            f"in no dimension do the two concepts move to opposite sides by {minimum:g} or more each (dimension "
            f"{likely} differs most: means {means}); lower minimum, name other dimensions, or contrast other tasks"
        )
    return axis


def window(series: np.ndarray, threshold: float, pad: int) -> tuple[int, int]:
    """First and last step, both inclusive, of the window of a demonstration.

    series: (steps,) state along the axis. threshold: share of the whole displacement from which on a step counts. pad:
    steps added at both ends, clamped to the demonstration. Where the whole displacement is none, the steps of the
    largest changes are taken, a tenth of all and at least 5.
    """
    moved = np.abs(series - series[0])
    far = np.flatnonzero(moved >= max(moved[-1] * threshold, STILL))
    if len(far) == 0:
        changes = np.abs(np.diff(series, prepend=series[0]))
        if not changes.any():
            return 0, len(series) - 1
        far = np.sort(np.argsort(changes)[-max(5, len(series) // 10) :])
    start, end = max(int(far[0]) - pad, 0), min(int(far[-1]) + pad, len(series) - 1)
    return start, end if end > start else min(start + 1, len(series) - 1)


def build_manifest(
    demos: Mapping[str, Sequence[Demo]], axis: int, moves: Moves, threshold: float, pad: int
) -> dict[str, Any]:
    """The manifest of a contrast.

    demos: task text -> demonstrations, the positive concept first. moves: of these demonstrations.
    """
    return {
        "axis": {
            "index": axis,
            "effect_size": float(moves.effect[axis]),
            "mean_delta_per_task": {task: float(mean[axis]) for task, mean in zip(demos, moves.means, strict=True)},
        },
        "segments": [
            _segment(task, demo, axis, window(demo.states[:, axis], threshold, pad))
            for task, own in demos.items()
            for demo in own
        ],
    }


def _segment(task: str, demo: Demo, axis: int, steps: tuple[int, int]) -> dict[str, Any]:
    start, end = steps
    values = demo.states[start : end + 1, axis]
    return {
        "task": task,
        "file": demo.file,
        "demo": demo.name,
        "start_step": start,
        "end_step": end,
        "axis_delta": float(values[-1] - values[0]),
        "axis_values": values.tolist(),
        "episode_index": demo.episode,
    }


def tasks_of(manifest: Mapping[str, Any]) -> list[str]:
    """Task texts in the order of the segments: the positive concept first."""
    return list(dict.fromkeys(segment["task"] for segment in manifest["segments"]))
