"""The figures of a sweep of SAEs: size and sparsity, latent density, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import drawing, empty, log_axis
from policylens.visualize.members import basis, in_order, lines_of, mark_size, series, short_labels, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]
Style = dict[str, Any]


def _points(axes: Axes, members: Sequence[Report], style: Style, x: str, y: str, shift: float) -> None:
    xs, ys = (np.array([_values(report, key) for report in members]) for key in (x, y))
    whiskers = {"linewidth": 1.4, "elinewidth": 1, "capsize": 2, "capthick": 1}
    if x == "latents":
        axes.errorbar(xs[:, 0] * 2**shift, ys[:, 0], yerr=_arms(ys), markersize=5, **whiskers, **style)
        return
    axes.plot(xs[:, 0], ys[:, 0], color=style["color"], linewidth=1.4)
    look = {**style, "linestyle": "none", "label": None}
    for report, x_span, y_span in zip(members, xs, ys, strict=True):
        arms = {"xerr": _arms(x_span[None]), "yerr": _arms(y_span[None])}
        axes.errorbar(x_span[0], y_span[0], **arms, **whiskers, **look, markersize=mark_size(report["d_sae"]))


def _values(report: Report, key: str) -> list[float]:
    if key == "latents":
        return [report["d_sae"]] * 3
    estimate = report["metrics"][key]
    return [np.nan if estimate[part] is None else estimate[part] for part in ("value", "low", "high")]


def _arms(values: np.ndarray) -> np.ndarray:
    value, low, high = values.T
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))


PANELS = (
    ("latents", "l0", "Sparsity against size"),
    ("latents", "normalised_mse", "Error against size"),
    ("latents", "loss", "Loss against size"),
    ("l0", "normalised_mse", "Error against sparsity"),
)
AXES = {
    "latents": "latents m",
    "l0": "L0: active latents per row",
    "normalised_mse": "normalised MSE: Σ‖x − x̂‖² / Σ‖x‖²",
    "loss": "loss per row (each architecture has its own)",
}
FAR_APART = 20
"""Ratio of the largest value to the smallest above which an axis is logarithmic."""


def scaling(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """L0, error and loss against the number of latents, and error against L0.

    reports: member name -> metrics.json. title: names policy, checkpoint and site.
    """
    reports = in_order(reports)
    style = styles(reports)
    lines = lines_of(series(reports))
    several_widths = len({report["d_sae"] for report in reports.values()}) > 1
    shifts = _shifts(len(lines), several_widths)
    note = basis(reports) + ("; last panel: larger marks have more latents" if several_widths else "")
    with drawing(path, 9.5, 7.2, f"SAE size and sparsity: {title}", note) as figure:
        grid = figure.subplots(2, 2)
        for axes, (x, y, heading) in zip(grid.flat, PANELS, strict=True):
            for names, shift in zip(lines.values(), shifts, strict=True):
                _points(axes, [reports[name] for name in names], style[names[0]], x, y, shift)
            axes.set(title=heading, xlabel=AXES[x], ylabel=AXES[y])
            _scales(axes, x, y, list(reports.values()))
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")


def _shifts(n_lines: int, several_widths: bool) -> np.ndarray:
    """How far each line is moved sideways, in octaves: apart where all members have one width, else not at all."""
    return np.zeros(n_lines) if several_widths else np.linspace(-0.4, 0.4, n_lines) * (n_lines > 1)


def _scales(axes: Axes, x: str, y: str, reports: Sequence[Report]) -> None:
    from matplotlib.ticker import NullLocator

    if x == "latents":
        widths = sorted({report["d_sae"] for report in reports})
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(widths[0] / 1.4, widths[-1] * 1.4)
    elif _far_apart(reports, x):
        log_axis(axes, "x")
    else:
        axes.set_xlim(left=0)
    if y != "normalised_mse" and _far_apart(reports, y):
        log_axis(axes, "y")
    else:
        axes.set_ylim(bottom=0)


def _far_apart(reports: Sequence[Report], key: str) -> bool:
    values = [_values(report, key)[0] for report in reports]
    return max(values) > FAR_APART * min(values) > 0


def density(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Per member the histogram of log10 density of its latents."""
    reports = in_order(reports)
    style = styles(reports)
    labels = short_labels(reports)
    columns = min(len(reports), 5 if len(reports) > 9 else 3 if len(reports) > 4 else 2)
    rows = -(-len(reports) // columns)
    with drawing(
        path, 0.6 + 2.9 * columns, 1.1 + 2.0 * rows, f"Latent density: {title}", _density_note(reports)
    ) as figure:
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes in grid.flat[len(reports) :]:
            axes.set_visible(False)
        for axes, (name, report) in zip(grid.flat, reports.items(), strict=False):
            found = report["density"]
            axes.stairs(found["latents"], found["log10_edges"], fill=True, color=style[name]["color"])
            axes.set_title(labels[name], fontsize=9)
            axes.text(
                0.03,
                0.95,
                f"never active: {found['never_active']:,} of {report['d_sae']:,}\n"
                f"L0 {report['metrics']['l0']['value']:.1f}",
                transform=axes.transAxes,
                va="top",
                fontsize=8,
                color="#333333",
            )
            axes.set_ylim(0, 1.45 * max(1, *found["latents"]))
        figure.supxlabel("log10 of the share of rows in which a latent is active", fontsize=9)
        figure.supylabel("latents per bin", fontsize=9)


def _density_note(reports: Mapping[str, Report]) -> str:
    first = next(iter(reports.values()))
    return f"{first['split']} split: {first['n_rows']:,} rows of {first['n_episodes']:,} episodes"


CURVES = (
    ("loss", "loss"),
    ("reconstruction", "Σ (x − x̂)² per row"),
    ("l0", "L0: active latents per row"),
    ("dead", "share of latents never active"),
)


def training(
    path: Path, reports: Mapping[str, Report], histories: Mapping[str, Sequence[Mapping[str, float]]], title: str
) -> None:
    """Loss, error, L0 and dead latents over the training of every member.

    histories: member name -> rows of training.json; none for an imported SAE.
    """
    reports = in_order(reports)
    style = styles(reports)
    widths = sorted({report["d_sae"] for report in reports.values()})
    heading, known = f"SAE training: {title}", [name for name in reports if histories[name]]
    if not known:
        empty(path, heading, "these SAEs were not trained here", "an imported SAE has no history")
        return
    with drawing(path, 9.5, 7, heading, _training_note(widths, len(reports) - len(known))) as figure:
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (key, label) in zip(grid.flat, CURVES, strict=True):
            for name in known:
                steps, values = ([row[column] for row in histories[name]] for column in ("step", key))
                thickness = np.interp(widths.index(reports[name]["d_sae"]), [0, 1, 4], [1, 1.5, 2.6])
                axes.plot(steps, values, color=style[name]["color"], lw=thickness, label=style[name]["label"])
            axes.set_title(label)
            if key == "dead":
                axes.set_ylim(0, max(0.05, 1.05 * axes.dataLim.ymax))
            else:
                log_axis(axes, "y")
        for axes in grid[1]:
            axes.set_xlabel("optimiser step")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        last = dict(zip(labels, handles, strict=True))
        figure.legend(last.values(), last.keys(), loc="outside right center")


def _training_note(widths: Sequence[int], n_untold: int) -> str:
    note = "measured on fixed training rows, in units of the normalised data"
    if len(widths) > 1:
        note += f"; thicker lines: more latents ({widths[0]} to {widths[-1]})"
    return note + (f"; {n_untold} imported without a history" if n_untold else "")
