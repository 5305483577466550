"""The figure of closed-loop returns: the policy as it is, with the SAE spliced in, and with its site ablated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.visualize.figure import GREY, drawing, whiskers

RUNS = {
    "original": ("policy as it is", "#222222"),
    "reconstruction": ("SAE spliced in", "#2171B5"),
    "resample": ("resample-ablation", GREY),
    "mean": ("mean-ablation", GREY),
    "zero": ("zero-ablation", GREY),
}


def returns(path: Path, report: Mapping[str, Any], title: str) -> None:
    """Mean return of every run, one panel per task.

    report: return.json. title: names policy, checkpoint, site and SAE.
    """
    tasks = report["tasks"]
    columns = min(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    note = f"{report['n_episodes']:,} paired episodes per run; whiskers: 95% intervals over episodes"
    width = max(1.9 + 2.5 * columns, 6.4)
    with drawing(path, width, 1.1 + 1.5 * rows, f"Return with the SAE in the loop: {title}", note) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(tasks) :]:
            axes.set_visible(False)
        for axes, (task, measures) in zip(grid.flat, tasks.items(), strict=False):
            _panel(axes, measures["return"]["runs"])
            axes.set_title(task)
        for axes in grid[-1]:
            axes.set_xlabel("mean return per episode")
        grid[0, 0].set_yticks(range(len(RUNS)), [label for label, _ in RUNS.values()])
        grid[0, 0].invert_yaxis()


def _panel(axes: Any, runs: Mapping[str, Mapping[str, Any]]) -> None:
    for place, (name, (_, colour)) in enumerate(RUNS.items()):
        value, arms = whiskers(runs[name])
        axes.errorbar(value, place, xerr=arms, fmt="o", color=colour, markersize=5, capsize=3)
        axes.text(value, place - 0.22, f"{value:.2f}", ha="center", va="bottom", fontsize=7.5, color="#444444")
    axes.set_ylim(-0.6, len(RUNS) - 0.4)
    axes.margins(x=0.15)
