"""The figures of concepts: single units against labels, and a few units together, every method beside the SAEs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import drawing, empty
from policylens.visualize.members import in_order, short_labels, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

SCORES = {
    "auc": "mean test AUC",
    "auc_within_phase": "mean test AUC within phases",
    "f1": "mean test F1",
}
# Colours of Okabe and Ito's palette, told apart by the colour-blind; marks and line styles differ too.
POINTS = {
    "untrained_sae": ("best latent, SAE of untrained network", "D", "#CC79A7"),
    "random_sae": ("best latent, random SAE", "X", "#777777"),
    "pca": ("best principal component", "^", "#009E73"),
}
LINES = {
    "neurons": ("best neuron", "-", "#222222"),
    "linear_probe": ("linear probe on the site", "--", "#222222"),
    "observation_probe": ("linear probe on observations", ":", "#222222"),
}
PROBED = {"auc": "mean test AUC", "balanced_accuracy": "mean balanced test accuracy"}
REFERENCES = {
    "neurons": {"color": "#222222", "ls": "-", "marker": "P", "label": "neurons"},
    "pca": {"color": "#009E73", "ls": "--", "marker": "X", "label": "principal components"},
}
NAMED = "sae.<sweep>.evaluation.concepts in config.yaml names labels"
APART = 0.17
"""Distance between the marks of one member, in rows."""


def concepts(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Per member the mean over labels of its best latents' scores, beside the other methods'.

    reports: member name -> metrics.json. title: names policy, checkpoint and site.
    """
    reports = {name: report for name, report in in_order(reports).items() if report["alignment"]}
    heading = f"Single units and labels: {title}"
    if not reports:
        empty(path, heading, "no labels are named for this sweep", NAMED)
        return
    style = styles(reports)
    first = next(iter(reports.values()))["alignment"]
    scores = {key: label for key, label in SCORES.items() if first["methods"]["sae"][key]}
    width, height = 2.9 + 2.75 * len(scores), 2.5 + 0.62 * len(reports)
    with drawing(path, width, height, heading, _note(first)) as figure:
        grid = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
        for axes, (score, label) in zip(grid, scores.items(), strict=True):
            _rows(axes, reports, style, score)
            axes.set(xlabel=label, ylim=(len(reports) - 0.5, -0.5))
        grid[0].set_yticks(range(len(reports)), short_labels(reports).values())
        handles, labels = grid[0].get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True))
        figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=min(3, len(known)))


def _note(alignment: Mapping[str, Any]) -> str:
    rows, episodes = alignment["n_rows"]["test"], alignment["n_episodes"]["test"]
    return (
        f"{alignment['n_targets']} yes-or-no labels of the set {alignment['label_set']!r}; units chosen on validation, "
        f"scored on {rows:,} test rows of {episodes:,} episodes; whiskers: 95% over episodes"
    )


def _rows(axes: Axes, reports: Mapping[str, Report], style: Mapping[str, Any], score: str) -> None:
    first = next(iter(reports.values()))["alignment"]["methods"]
    for name, (label, dashes, colour) in LINES.items():
        if name in first:
            value, low, high = _span(first[name][score])
            axes.axvspan(low, high, color=colour, alpha=0.15, lw=0)
            axes.axvline(value, color=colour, ls=dashes, lw=1.4, label=label)
    for place, (name, report) in enumerate(reports.items()):
        methods = report["alignment"]["methods"]
        marks = [("best latent of all", "o", style[name]["color"], methods["sae"][score], True)]
        if score in methods["neurons"]["sae_of_as_many"]:
            few = methods["neurons"]["sae_of_as_many"][score]
            marks.append(("expected best of as many latents as neurons", "o", style[name]["color"], few, False))
        marks += [(*POINTS[key], methods[key][score], True) for key in POINTS if key in methods]
        for number, (label, mark, colour, estimate, filled) in enumerate(marks):
            _mark(axes, place + (number - (len(marks) - 1) / 2) * APART, label, mark, colour, estimate, filled)


def _mark(
    axes: Axes, place: float, label: str, mark: str, colour: Any, estimate: Mapping[str, Any], filled: bool
) -> None:
    value, low, high = _span(estimate)
    axes.errorbar(
        value,
        place,
        xerr=np.maximum(0, np.nan_to_num([[value - low], [high - value]])),
        fmt=mark,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=5,
        elinewidth=1,
        capsize=2,
        label=label,
    )


def _span(estimate: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(np.nan if estimate[part] is None else estimate[part] for part in ("value", "low", "high"))


def probing(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Mean AUC and balanced accuracy of k units together, against k: every member, neurons and components."""
    reports = {name: report for name, report in in_order(reports).items() if report["probing"]}
    heading = f"Sparse probing: {title}"
    if not reports:
        empty(path, heading, "no sparse probing was asked for", NAMED)
        return
    style, names = styles(reports), short_labels(reports)
    first = next(iter(reports.values()))
    widths = sorted({report["d_sae"] for report in reports.values()})
    note = _note(first["alignment"]).replace("units chosen on validation", "fitted on training rows")
    with drawing(path, 10, max(4.6, 1.2 + 0.19 * len(reports)), heading, note) as figure:
        grid = figure.subplots(1, 2)
        for axes, (score, label) in zip(grid, PROBED.items(), strict=True):
            for name, report in reports.items():
                look = style[name] | {"label": names[name]}
                thickness = np.interp(widths.index(report["d_sae"]), [0, 1, 4], [1, 1.7, 3])
                _curve(axes, report["probing"]["k"], "sae", score, **look, lw=thickness)
            for method, look in REFERENCES.items():
                _curve(axes, first["probing"]["k"], method, score, lw=1.4, **look)
            axes.set(xlabel="units per probe, k", ylabel=label)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")


def _curve(axes: Axes, by_k: Mapping[str, Any], method: str, score: str, **look: Any) -> None:
    ks = sorted(by_k, key=int)
    spans = np.array([_span(by_k[k][method][score]) for k in ks])
    arms = np.maximum(0, np.nan_to_num([spans[:, 0] - spans[:, 1], spans[:, 2] - spans[:, 0]]))
    axes.errorbar(range(len(ks)), spans[:, 0], yerr=arms, markersize=5, elinewidth=1, capsize=2, **look)
    axes.set_xticks(range(len(ks)), ks)
