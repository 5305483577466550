"""The figure of policy fidelity: what the policy loses when an SAE's reconstruction replaces its activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from policylens.visualize.figure import GREY, drawing, empty, log_axis
from policylens.visualize.members import basis, in_order, short_labels, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

FIDELITY = {
    "kl": ("KL(original ‖ edited), nats", "Action distribution"),
    "agreement": ("share of rows in which the action agrees", "Action"),
    "value_error": ("mean |edited − original| value", "Value"),
}
CONTROLS = {
    "identity": "nothing replaced",
    "resample": "resample-ablation",
    "mean": "mean-ablation",
    "zero": "zero-ablation",
}
FAR_APART = 20
"""Ratio of the largest value to the smallest above which a row of bars would hide the small ones."""


class Row(NamedTuple):
    """One edit. found: metric -> estimate. bounds: whether a scale must reach down to it."""

    label: str
    colour: Any
    found: Mapping[str, Any]
    bounds: bool = True


def fidelity(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """What the policy loses per member's reconstruction, beside ablations of the whole site and nothing replaced.

    reports: member name -> metrics.json. title: names policy, checkpoint and site. Values far apart are drawn as marks
    on a logarithmic axis, where a bar would have no meaningful length, and a value of 0 as text.
    """
    reports = {name: report for name, report in in_order(reports).items() if report["fidelity"]}
    heading = f"Policy fidelity: {title}"
    if not reports:
        empty(path, heading, "no policy was run for this sweep", "fidelity needs a policy and its observations")
        return
    rows = _rows(reports)
    metrics = [metric for metric in FIDELITY if metric in rows[0].found]
    width, height = 2.2 + 2.9 * len(metrics), 1.5 + 0.27 * len(rows)
    with drawing(path, width, height, heading, basis(reports)) as figure:
        grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(grid, metrics, strict=True):
            _panel(axes, rows, metric)
        grid[0].set_yticks(range(len(rows)), [row.label for row in rows])
        grid[0].set_ylim(len(rows) - 0.4, -0.6)


def _rows(reports: Mapping[str, Report]) -> list[Row]:
    """Every member's reconstruction, then the edits that all members share."""
    style, labels = styles(reports), short_labels(reports)
    own = [
        Row(labels[name], style[name]["color"], report["fidelity"]["edits"]["reconstruction"])
        for name, report in reports.items()
    ]
    edits = next(iter(reports.values()))["fidelity"]["edits"]
    return own + [Row(label, GREY, edits[edit], edit != "identity") for edit, label in CONTROLS.items()]


def _panel(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    estimates = [row.found[metric] for row in rows]
    spans = np.array([[np.nan if e[part] is None else e[part] for part in ("value", "low", "high")] for e in estimates])
    bounding = spans[[row.bounds for row in rows], 0]
    bounding = bounding[bounding > 0]
    label, heading = FIDELITY[metric]
    axes.set(title=heading, xlabel=label)
    if metric != "agreement" and len(bounding) and bounding.max() > FAR_APART * bounding.min():
        _marks(axes, rows, spans, bounding.min())
        axes.set_xlabel(f"{label} (log scale)")
    else:
        _bars(axes, rows, spans)
    if metric == "agreement":
        axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", visible=False)


def _bars(axes: Axes, rows: Sequence[Row], spans: np.ndarray) -> None:
    places = np.arange(len(rows))
    axes.barh(places, spans[:, 0], color=[row.colour for row in rows], height=0.7)
    axes.errorbar(spans[:, 0], places, xerr=_arms(spans), fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    for place, (value, _, high) in zip(places, spans, strict=True):
        _number(axes, max(value, np.nan_to_num(high)), place, value)
    axes.set_xlim(0, 1.25 * float(np.nanmax(spans)) or 1)


def _marks(axes: Axes, rows: Sequence[Row], spans: np.ndarray, smallest: float) -> None:
    left = smallest / 2
    for place, (row, (value, low, high)) in enumerate(zip(rows, spans, strict=True)):
        if not value >= left:
            axes.text(0.02, place, f"{value:.3g}", va="center", fontsize=8, transform=axes.get_yaxis_transform())
            continue
        arms = _arms(np.array([[value, max(low, left), high]]))
        look = {"color": row.colour, "ecolor": "#222222", "elinewidth": 1, "capsize": 2}
        axes.errorbar(value, place, xerr=arms, fmt="o", markersize=6, **look)
        _number(axes, np.nanmax([value, high]), place, value)
    log_axis(axes, "x")
    axes.set_xlim(left, float(np.nanmax(spans)) ** 1.3 / left**0.3)


def _number(axes: Axes, x: float, place: float, value: float) -> None:
    offset = {"xytext": (4, 0), "textcoords": "offset points"}
    axes.annotate(f"{value:.3g}", (x, place), **offset, va="center", fontsize=8)


def _arms(spans: np.ndarray) -> np.ndarray:
    value, low, high = spans.T
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))
