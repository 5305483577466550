"""The figure of dictionary recovery: how much of a known dictionary SAEs find, over noise, correlation and width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.visualize.figure import drawing

TOOLS = {"policylens": ("policylens", "#0072B2", "o"), "saelens": ("SAELens", "#D55E00", "s")}
MEASURES = {"recall": "recall: true features found", "precision": "precision: latents that are one"}
DASHES = ("-", "--", ":", "-.")


def recovery(path: Path, report: Mapping[str, Any]) -> None:
    """Recall and precision against noise: a column per correlation, a dash pattern per width, a colour per tool.

    report: recovery.json of benchmarks/dictionary_recovery.py.
    """
    correlations, widths = (sorted({c[name] for c in report["conditions"]}) for name in ("correlation", "width"))
    data = report["data"]
    note = (
        f"{data['features']} features in {data['dimensions']} dimensions, {data['l0']} active per row; a match: cosine "
        f"of at least {report['threshold']}; mean of {report['seeds']} seeds, whiskers: 95% intervals over seeds"
    )
    size = (max(9.4, 1.4 + 3.0 * len(correlations)), 6.2)
    with drawing(path, *size, "Recovery of a known dictionary: TopK at the true L0", note) as figure:
        grid = figure.subplots(2, len(correlations), sharex=True, sharey=True, squeeze=False)
        for row, (measure, label) in zip(grid, MEASURES.items(), strict=True):
            for axes, correlation in zip(row, correlations, strict=True):
                for number, width in enumerate(widths):
                    _lines(axes, report, measure, correlation, width, number)
                axes.set_ylim(0, 1.08)
            row[0].set_ylabel(label)
        for axes, correlation in zip(grid[0], correlations, strict=True):
            axes.set_title(f"correlation {correlation:g} within groups of {data['group']}")
        for axes in grid[-1]:
            axes.set_xlabel("noise, as a share of the signal")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _lines(axes: Any, report: Mapping[str, Any], measure: str, correlation: float, width: float, number: int) -> None:
    found = [c for c in report["conditions"] if (c["correlation"], c["width"]) == (correlation, width)]
    found = sorted(found, key=lambda condition: condition["noise"])
    noise = np.array([condition["noise"] for condition in found])
    for place, tool in enumerate(report["tools"]):
        aside = 0.008 * max(noise.max(), 0.1) * (2 * number + place - 1.5)  # so that whiskers do not hide each other
        name, colour, marker = TOOLS[tool]
        spans = np.array([[c[tool][measure][part] for part in ("value", "low", "high")] for c in found], dtype=float)
        arms = np.nan_to_num(np.stack([spans[:, 0] - spans[:, 1], spans[:, 2] - spans[:, 0]])).clip(0)
        axes.errorbar(
            noise + aside,
            spans[:, 0],
            yerr=arms,
            color=colour,
            marker=marker,
            markersize=4,
            ls=DASHES[number % len(DASHES)],
            lw=1.4,
            capsize=2,
            elinewidth=1,
            label=f"{name}, {width:g} latents per feature",
        )
