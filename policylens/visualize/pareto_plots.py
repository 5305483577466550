"""The figure of architectures beside each other: quality against sparsity, and the members that none beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.evaluation.pareto import pareto_front
from policylens.visualize.figure import drawing, empty, log_axis
from policylens.visualize.members import MARKERS, basis, in_order, lines_of, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

# Okabe and Ito's palette, told apart by the colour-blind; each architecture has its own mark too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#8A8A8A")
DASHES = ("-", "--", ":", "-.")
FRONT = "#222222"
QUALITIES = {
    "explained_variance": ("explained variance", "Reconstruction"),
    "kl_recovered": ("share of KL recovered from mean-ablation", "Policy fidelity"),
}
LOWEST = -0.25
"""Below this a member is worse than saying the mean by so much that its place says no more."""


def pareto(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Explained variance, and KL recovered where it was measured, against L0: a line per architecture and width.

    reports: member name -> metrics.json. title: names policy, checkpoint and site. The front is drawn in black over the
    members as measured, without their intervals.
    """
    reports = in_order(reports)
    shown = {name: report for name, report in reports.items() if (report["metrics"]["l0"]["value"] or 0) > 0}
    heading = f"Sparsity and quality: {title}"
    if not shown:
        empty(path, heading, "no member has an active latent", "nothing to place on an axis of L0")
        return
    qualities = [key for key in QUALITIES if all(_estimate(report, key) for report in shown.values())]
    left_out = len(reports) - len(shown)
    note = basis(reports) + (f"; {left_out} without an active latent left out" if left_out else "")
    lines, looks = _lines(shown)
    with drawing(path, 5 + 4 * (len(qualities) - 1) + 2.4, 4.6, heading, note) as figure:
        grid = figure.subplots(1, len(qualities), squeeze=False)[0]
        for axes, quality in zip(grid, qualities, strict=True):
            _panel(axes, shown, lines, looks, quality)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")


def _lines(reports: Mapping[str, Report]) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Line -> members by L0, and how it looks: a colour and mark per architecture, dashes per further difference."""
    names = {}
    for name, line in series({name: _without_sparsity(report) for name, report in reports.items()}).items():
        names[name] = f"{line} m={reports[name]['d_sae']}"
    lines = {line: sorted(found, key=lambda name: _l0(reports[name])) for line, found in lines_of(names).items()}
    kinds: dict[str, list[str]] = {}
    for line, found in lines.items():
        kinds.setdefault(reports[found[0]]["settings"]["architecture"], []).append(line)
    looks = {}
    for number, own in enumerate(kinds.values()):
        for place, line in enumerate(own):
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            faint = 1 if len(own) == 1 else 0.4 + 0.6 * place / (len(own) - 1)
            looks[line] = look | {"ls": DASHES[(len(own) - 1 - place) % len(DASHES)], "alpha": faint}
    return lines, looks


def _without_sparsity(report: Report) -> Report:
    kept = {key: value for key, value in report["settings"].items() if key not in ("sparsity", "k")}
    return {**report, "settings": kept}


def _panel(
    axes: Axes, reports: Mapping[str, Report], lines: Mapping[str, Sequence[str]], looks: Mapping[str, Any], key: str
) -> None:
    for line, names in lines.items():
        places = np.array([_span(reports[name]["metrics"]["l0"]) for name in names])
        values = np.array([_span(_estimate(reports[name], key)) for name in names])
        arms = {"xerr": _arms(places), "yerr": _arms(values)}
        whiskers = {"markersize": 5, "linewidth": 1.4, "elinewidth": 1, "capsize": 2}
        axes.errorbar(places[:, 0], values[:, 0], **arms, **whiskers, **looks[line], label=line)
    _draw_front(axes, list(reports.values()), key)
    log_axis(axes, "x")
    label, heading = QUALITIES[key]
    axes.set(title=heading, xlabel="L0: active latents per row (log scale)", ylabel=label)
    lowest = min(_span(_estimate(report, key))[0] for report in reports.values())
    axes.set_ylim(bottom=LOWEST if lowest < LOWEST else None, top=1.01)


def _draw_front(axes: Axes, reports: Sequence[Report], key: str) -> None:
    """Rings around the members of the front, and the steps of what is reached at each L0."""
    places = np.array([[_l0(report), _span(_estimate(report, key))[0]] for report in reports])
    front = places[pareto_front(places[:, 0], places[:, 1])]
    front = front[np.argsort(front[:, 0], kind="stable")]
    axes.plot(*front.T, drawstyle="steps-post", color=FRONT, lw=0.9, ls=(0, (1, 2)), zorder=1)
    ring = {"ls": "none", "marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": FRONT}
    axes.plot(*front.T, **ring, markeredgewidth=0.9, label="Pareto front")


def _estimate(report: Report, key: str) -> Any:
    if key in report["metrics"]:
        return report["metrics"][key]
    return report["fidelity"]["kl_recovered"]["mean"] if report["fidelity"] else None


def _l0(report: Report) -> float:
    return report["metrics"]["l0"]["value"]


def _span(estimate: Mapping[str, Any]) -> list[float]:
    return [np.nan if estimate[part] is None else estimate[part] for part in ("value", "low", "high")]


def _arms(spans: np.ndarray) -> np.ndarray:
    value, low, high = spans.T
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))
