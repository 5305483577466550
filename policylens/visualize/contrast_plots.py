"""The figure of a contrast: how its demonstrations move in every dimension, and along the axis step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policylens.concepts.contrast import displacements
from policylens.visualize.figure import GREY, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from policylens.concepts.contrast_study import Study

COLOURS = ("#0072B2", "#D55E00")
MARKS = "o^"
LONGEST = 44
"""Letters of a task's text in a legend."""


def axis(path: Path, study: Study) -> None:
    """Displacements per dimension on the left; on the right each demonstration along the axis, windows strong."""
    record = study.record
    chosen, counts = record["axis"], [len(own) for own in study.demos.values()]
    effect = chosen["effect"]
    where = "axis chosen on other demonstrations" if chosen["held_out"] else "axis chosen on these"
    if chosen["rule"] is None:
        where = "axis of its manifest"
    interval = "" if effect["low"] is None else f" [{effect['low']:.2f}, {effect['high']:.2f}] (95%)"
    note = (
        f"{counts[0]} and {counts[1]} demonstrations; {where}: dimension {chosen['index']}, effect "
        f"{effect['value']:.2f}{interval}, permutation p {chosen['null']['p']:.2g}"
    )
    title = f"Contrast: {record['policy']} / {record['source']} / {record['contrast']} ({record['settings']['array']})"
    with drawing(path, 9.6, 4.0, title, note) as figure:
        left, right = figure.subplots(1, 2)
        _displacements(left, study)
        _series(right, study)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _displacements(axes: Axes, study: Study) -> None:
    index = study.manifest["axis"]["index"]
    for place, (task, own) in enumerate(study.demos.items()):
        moved = displacements(own)
        dimensions = np.arange(moved.shape[1]) + (place - 0.5) * 0.36
        spread = (np.arange(len(moved)) - (len(moved) - 1) / 2) * 0.24 / max(len(moved), 1)
        axes.plot(
            (dimensions + spread[:, None]).ravel(), moved.ravel(), ".", color=COLOURS[place], ms=3, alpha=0.4, mew=0
        )
        axes.plot(
            dimensions, moved.mean(axis=0), MARKS[place], color=COLOURS[place], ms=6, mec="white", label=_short(task)
        )
    axes.axvspan(index - 0.5, index + 0.5, color="#EEEEEE", zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(study.moves.difference)))
    axes.set_xlabel("dimension of the state (grey: the axis)")
    axes.set_ylabel("last state less first (the state's unit)")
    axes.set_title("each demonstration, and means")


def _series(axes: Axes, study: Study) -> None:
    index = study.manifest["axis"]["index"]
    windows = {segment["episode_index"]: segment for segment in study.manifest["segments"]}
    for place, own in enumerate(study.demos.values()):
        for demo in own:
            moved = demo.states[:, index] - demo.states[0, index]
            steps = np.arange(len(moved))
            axes.plot(steps, moved, color=COLOURS[place], linewidth=0.6, alpha=0.35)
            inside = slice(windows[demo.episode]["start_step"], windows[demo.episode]["end_step"] + 1)
            axes.plot(steps[inside], moved[inside], color=COLOURS[place], linewidth=1.1, alpha=0.7)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("step of the episode")
    axes.set_ylabel(f"dimension {index} less its first value")
    axes.set_title("along the axis; windows strong")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
