"""The figure of architectures beside each other: quality against sparsity, and the members that none beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.evaluation.pareto import fronts, quality_of
from policylens.visualize.figure import drawing, empty, log_axis
from policylens.visualize.members import MARKERS, basis, in_order, lines_of, mark_size, series

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
    shown = {name: report for name, report in reports.items() if report["metrics"]["l0"]["value"]}
    heading = f"Sparsity and quality: {title}"
    if not shown:
        empty(path, heading, "no member has an active latent", "nothing to place on an axis of L0")
        return
    found = fronts(shown)
    left_out = len(reports) - len(shown)
    note = basis(reports) + (f"; {left_out} without an active latent left out" if left_out else "")
    lines = _lines(shown)
    looks = _looks({line: shown[names[0]]["settings"]["architecture"] for line, names in lines.items()})
    with drawing(path, max(7.6, 3.4 + 4 * len(found)), 4.6, heading, note) as figure:
        grid = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (quality, front) in zip(grid, found.items(), strict=True):
            _panel(axes, shown, lines, looks, quality)
            _draw_front(axes, [shown[name] for name in front], quality)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")


def _lines(reports: Mapping[str, Report]) -> dict[str, list[str]]:
    """Line -> its members by L0."""
    names = series({name: _without_sparsity(report) for name, report in reports.items()})
    lines = lines_of({name: f"{line} m={reports[name]['d_sae']}" for name, line in names.items()})
    return {line: sorted(found, key=lambda name: _l0(reports[name])) for line, found in lines.items()}


def _looks(architectures: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Line -> how it looks, from line -> architecture.

    Of several architectures each has a colour and a mark, and its lines dashes; of one alone each line has its own.
    """
    import matplotlib

    kinds = lines_of(architectures)
    alone = len(kinds) == 1
    found = {}
    for number, own in enumerate(kinds.values()):
        for place, line in enumerate(own):
            shade = matplotlib.colormaps["viridis"](0.88 * place / max(1, len(own) - 1))
            found[line] = {
                "color": shade if alone else COLOURS[number % len(COLOURS)],
                "marker": MARKERS[(place if alone else number) % len(MARKERS)],
                "ls": "-" if alone else DASHES[(len(own) - 1 - place) % len(DASHES)],
            }
    return found


def _without_sparsity(report: Report) -> Report:
    kept = {key: value for key, value in report["settings"].items() if key not in ("sparsity", "k")}
    return {**report, "settings": kept}


def _panel(
    axes: Axes, reports: Mapping[str, Report], lines: Mapping[str, Sequence[str]], looks: Mapping[str, Any], key: str
) -> None:
    for line, names in lines.items():
        places = np.array([_span(reports[name]["metrics"]["l0"]) for name in names])
        values = np.array([_span(quality_of(reports[name], key)) for name in names])
        arms = {"xerr": _arms(places), "yerr": _arms(values)}
        size = mark_size(reports[names[0]]["d_sae"])
        whiskers = {"markersize": size, "linewidth": 1.4, "elinewidth": 1, "capsize": 2}
        axes.errorbar(places[:, 0], values[:, 0], **arms, **whiskers, **looks[line], label=line)
    log_axis(axes, "x")
    label, heading = QUALITIES[key]
    axes.set(title=heading, xlabel="L0: active latents per row (log scale)", ylabel=label)
    axes.set_ylim(bottom=max(LOWEST, axes.get_ylim()[0]), top=1.01)
    for line, names in lines.items():
        _point_down(axes, [reports[name] for name in names], key, looks[line]["color"])


def _point_down(axes: Axes, members: Sequence[Report], key: str, colour: Any) -> None:
    """An arrow with its value at the lower edge for each member that lies below it."""
    for report in members:
        value, _, _ = _span(quality_of(report, key))
        if value < axes.get_ylim()[0]:
            at = {"xy": (_l0(report), 0.0), "xytext": (0, 18), "xycoords": axes.get_xaxis_transform()}
            arrow = {"arrowstyle": "-|>", "color": colour}
            text = {"textcoords": "offset points", "ha": "center", "fontsize": "small", "color": colour}
            axes.annotate(f"{value:.2g}", **at, **text, arrowprops=arrow)


def _draw_front(axes: Axes, members: Sequence[Report], key: str) -> None:
    """Rings around the members of the front, sparsest first, and the steps of what is reached at each L0."""
    front = np.array([[_l0(report), _span(quality_of(report, key))[0]] for report in members]).reshape(-1, 2)
    axes.plot(*front.T, drawstyle="steps-post", color=FRONT, lw=0.9, ls=(0, (1, 2)), zorder=1)
    ring = {"ls": "none", "marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgecolor": FRONT}
    axes.plot(*front.T, **ring, markeredgewidth=0.9, label="Pareto front")


def _l0(report: Report) -> float:
    return report["metrics"]["l0"]["value"]


def _span(estimate: Mapping[str, Any]) -> list[float]:
    return [np.nan if estimate[part] is None else estimate[part] for part in ("value", "low", "high")]


def _arms(spans: np.ndarray) -> np.ndarray:
    value, low, high = spans.T
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))
