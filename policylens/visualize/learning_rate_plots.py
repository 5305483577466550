"""The figure of a learning-rate sweep: what members that differ in their learning rate come to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import drawing, empty, log_axis
from policylens.visualize.members import basis, in_order, lines_of, series, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

PANELS = {
    "loss": ("held-out loss / lowest of its line", "Loss"),
    "explained_variance": ("explained variance", "Reconstruction"),
    "l0": ("L0: active latents per row", "Sparsity"),
}


def learning_rates(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Held-out loss, explained variance and L0 at the end of training against the learning rate.

    Losses stand relative to the lowest of their line, since those of two architectures have no common scale.

    reports: member name -> metrics.json. title: names policy, checkpoint and site. Members that differ in nothing else
    share a line; one that shares it with no other is not drawn.
    """
    reports = in_order(reports)
    names = series(reports, leave_out=("learning_rate",))
    lines = lines_of({name: f"{line} m={reports[name]['d_sae']}" for name, line in names.items()})
    lines = {line: found for line, found in lines.items() if len(found) > 1}
    heading = f"Learning rate: {title}"
    if not lines:
        empty(path, heading, "no members differ in their learning rate alone", "nothing to compare")
        return
    style = styles({found[0]: reports[found[0]] for found in lines.values()})
    with drawing(path, 11.5, 4.2, heading, basis(reports)) as figure:
        grid = figure.subplots(1, len(PANELS))
        for axes, (key, (label, heading)) in zip(grid, PANELS.items(), strict=True):
            for line, found in lines.items():
                look = style[found[0]] | {"label": line}
                _line(axes, [reports[name] for name in found], key, look)
            log_axis(axes, "x")
            axes.set(title=heading, xlabel="learning rate (log scale)", ylabel=label)
            if key == "explained_variance":
                axes.set_ylim(top=1.01)
            elif key == "l0":
                axes.set_ylim(bottom=0)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4)


def _line(axes: Axes, members: list[Report], key: str, look: Mapping[str, Any]) -> None:
    members = sorted(members, key=lambda report: report["settings"]["learning_rate"])
    rates = [report["settings"]["learning_rate"] for report in members]
    found = [report["metrics"][key] for report in members]
    value, low, high = (
        np.array([np.nan if estimate[part] is None else estimate[part] for estimate in found])
        for part in ("value", "low", "high")
    )
    if key == "loss":
        value, low, high = np.stack([value, low, high]) / np.nanmin(value)
    arms = np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))
    axes.errorbar(rates, value, yerr=arms, **look, markersize=5, linewidth=1.4, elinewidth=1, capsize=2)
