"""Figures of steering: gain against disturbance, and what was chosen on other episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.policies.family import DIVERGENCE
from policylens.steering.controls import called
from policylens.steering.goal import Goal
from policylens.steering.study import Found
from policylens.steering.world import mean_of_tasks
from policylens.visualize.effect_plots import COLOURS
from policylens.visualize.figure import GREY, drawing, empty, log_axis, whiskers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SITES = ("#0072B2", "#009E73", "#CC79A7", "#D55E00", "#222222", "#8A8A8A")
MARKS = "os^Dvp"
FEWEST_NATS = 1e-6
"""Disturbances below this are drawn here: a logarithmic axis has no 0."""

Record = Mapping[str, Any]


def title_of(record: Record) -> str:
    """Policy, checkpoint and study."""
    return f"{record['policy']} / {record['checkpoint']} / {record['steering']}"


def frontier(path: Path, record: Record, found: Found) -> None:
    """Gain of every candidate against how far it disturbs actions; controls and what was chosen among them.

    record: index.json. found: the runs that it was made from.
    """
    goal, episodes = record["goal"], record["episodes"]
    hollow = f"hollow: did not keep {_listed(goal['keep'])}; " if goal["keep"] else ""
    note = (
        f"{len(record['candidates'])} candidates, means of {episodes['choose']} episodes; {hollow}crosses: the chosen "
        f"ones on {episodes['confirm']} other episodes, 95% intervals"
    )
    with drawing(path, 8.4, 5.0, f"Steering: {title_of(record)}", note) as figure:
        axes = figure.subplots()
        _directions(axes, record, found)
        _candidates(axes, record["candidates"])
        for number, entry in enumerate(record["chosen"], start=1):
            _confirmed(axes, number, entry)
        axes.axhline(0, color=GREY, linewidth=0.8)
        if goal["least"]:
            axes.axhline(goal["least"], color=GREY, linewidth=0.8, linestyle="--", label="the least that counts")
        log_axis(axes, "x")
        axes.set_xlabel("disturbance: KL(unsteered || steered) of actions, mean per decision (nats)")
        unit = _unit_of(record["measures"][goal["measure"]])
        axes.set_ylabel(f"gain: {goal['measure']} {goal['change']} ({unit})")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")


def _listed(keep: Mapping[str, float]) -> str:
    return ", ".join(f"{name} within {tolerance:g}" for name, tolerance in keep.items())


def _directions(axes: Axes, record: Record, found: Found) -> None:
    """Every control on its episodes."""
    if not found.controls:
        return
    goal = Goal(record["goal"]["measure"], record["goal"]["change"])
    plain = {name: values[:1, :, : record["episodes"]["control"]] for name, values in found.confirming.items()}
    for number, kind in enumerate(found.kinds):
        runs = {
            name: np.concatenate([plain[name], values[:, number].reshape(-1, *values.shape[3:])])
            for name, values in found.controls.items()
        }
        results = mean_of_tasks(runs)
        nats = results[DIVERGENCE][1:].mean(axis=1).clip(FEWEST_NATS)
        axes.scatter(
            nats, goal.gains(results)[1:], s=7, color=COLOURS[kind], alpha=0.5, linewidths=0, label=called(kind)
        )


def _candidates(axes: Axes, candidates: Sequence[Record]) -> None:
    sites = list(dict.fromkeys(one["site"] for one in candidates))
    for number, site in enumerate(sites):
        for kept in (False, True):
            own = [one for one in candidates if one["site"] == site and one["kept"] is kept]
            axes.scatter(
                [max(one["means"][DIVERGENCE], FEWEST_NATS) for one in own],
                [one["gain"] for one in own],
                s=26,
                marker=MARKS[number % len(MARKS)],
                facecolors=SITES[number % len(SITES)] if kept else "none",
                edgecolors=SITES[number % len(SITES)],
                linewidths=0.9,
                label=site if kept else None,
            )


def _confirmed(axes: Axes, number: int, entry: Record) -> None:
    """A cross with its number; the legend says what it is."""
    nats = max(np.mean([task[DIVERGENCE]["steered"]["value"] for task in entry["tasks"].values()]), FEWEST_NATS)
    value, arms = whiskers(entry["gain"])
    label = f"{number}: {entry['name']}"
    axes.errorbar(nats, value, yerr=arms, fmt="x", color="#222222", markersize=8, capsize=3, label=label)
    place = (7 + 11 * ((number - 1) % 3), 5)  # those next to each other are told apart
    axes.annotate(str(number), (nats, value), place, textcoords="offset points", fontsize=9, fontweight="bold")


def confirmed(path: Path, record: Record) -> None:
    """What was chosen, on other episodes, beside the policy as it is: the goal, what was to be kept, disturbance."""
    title, episodes = f"Steering confirmed: {title_of(record)}", record["episodes"]
    if not record["chosen"]:
        empty(path, title, f"{episodes['confirm']} episodes", "no candidate gained anything and kept the rest")
        return
    goal = record["goal"]
    shown = list(dict.fromkeys([goal["measure"], *goal["keep"], "return", DIVERGENCE]))
    rows = ["policy as it is", *(entry["name"] for entry in record["chosen"])]
    tasks = record["tasks"]
    note = f"{episodes['confirm']} paired episodes, not those of choosing; whiskers: 95% intervals over episodes"
    height = 1.2 + len(tasks) * (0.9 + 0.38 * len(rows))
    with drawing(path, 2.4 + 2.3 * len(shown), height, title, note) as figure:
        grid = figure.subplots(len(tasks), len(shown), sharey=True, squeeze=False)
        for task, line in zip(tasks, grid, strict=True):
            for measure, axes in zip(shown, line, strict=True):
                _panel(axes, record, task, measure)
            line[0].set_yticks(range(len(rows)), rows)
            line[0].set_ylim(len(rows) - 0.5, -0.5)
            line[0].set_ylabel(task)


def _panel(axes: Axes, record: Record, task: str, measure: str) -> None:
    plain = record["plain"]["confirm"][task][measure]
    found = [plain, *(entry["tasks"][task][measure]["steered"] for entry in record["chosen"])]
    for place, estimate in enumerate(found):
        value, arms = whiskers(estimate)
        axes.errorbar(value, place, xerr=arms, fmt="o", color=SITES[4 if place == 0 else 0], markersize=4.5, capsize=3)
        axes.annotate(f"{value:.3g}", (value, place), (0, 5), textcoords="offset points", ha="center", fontsize=7)
    axes.set_title(measure)
    axes.set_xlabel(_unit_of(record["measures"][measure]), fontsize=8)
    axes.margins(x=0.2)


def _unit_of(description: str) -> str:
    """What stands in the description's last brackets, or the whole in one line of a panel's width."""
    if description.endswith(")"):
        return description.rpartition("(")[2].removesuffix(")")
    return description.partition(":")[0]
