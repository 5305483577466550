"""The figures of comparison.json: stability across seeds, splitting and absorption across widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing, empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

BLUES = ("#08519C", "#4292C6", "#9ECAE1")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def _basis(report: Report) -> str:
    return f"{report['split']} split: {report['n_rows']:,} rows of {report['n_episodes']:,} episodes"


def stability(path: Path, report: Report, title: str) -> None:
    """Per group of seeds the share of latents with a partner, by decoder direction and by activation, and the nulls.

    report: comparison.json. title: names policy, checkpoint and site.
    """
    heading = f"Stability across seeds: {title}"
    groups = report["stability"]
    if not groups:
        empty(path, heading, "the sweep has no members that differ in their seed alone", "nothing to compare")
        return
    note = f"mean over pairs of seeds, whiskers: lowest and highest pair; correlations on the {_basis(report)}"
    kinds = [kind for kind in ("directions", "activations") if all(kind in group["summary"] for group in groups)]
    width, height = max(3.4 + 3.1 * len(kinds), 6.6), 1.9 + 0.72 * len(groups)
    with drawing(path, width, height, heading, note) as figure:
        grid = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            _shares(axes, groups, kind)
        grid[0].set_yticks(range(len(groups)), [_group_label(report, group) for group in groups])
        grid[0].set_ylim(len(groups) - 0.4, -0.6)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))


def _group_label(report: Report, group: Report) -> str:
    first = report["members"][group["members"][0]]
    return f"{group['members'][0]}\n{len(group['members'])} seeds, {first['latents']:,} latents"


LABELS = {
    "directions": ("decoder directions", "cosine; null: random directions", "covariance"),
    "activations": ("activations", "correlation; null: rows of other episodes", "permuted"),
}


def _shares(axes: Axes, groups: Sequence[Report], kind: str) -> None:
    heading, measure, null = LABELS[kind]
    limits = sorted(groups[0]["summary"][kind]["shares"], reverse=True)
    for place, group in enumerate(groups):
        for number, limit in enumerate(limits):
            at = place + 0.24 * (number - 1)
            found = group["summary"][kind]["shares"][limit]
            label = f"≥ {limit}" if place == 0 else None
            axes.barh(at, found["mean"], height=0.22, color=BLUES[number], label=label)
            arms = [[found["mean"] - found["lowest"]], [found["highest"] - found["mean"]]]
            axes.errorbar(found["mean"], at, xerr=arms, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
            axes.text(found["highest"] + 0.015, at, f"{found['mean']:.2f}", va="center", fontsize=7.5)
        by_chance = np.mean([pair[kind][null]["shares"][limits[-1]] for pair in group["pairs"]])
        label = f"null, ≥ {limits[-1]}" if place == 0 else None
        axes.plot([by_chance] * 2, [place - 0.4, place + 0.4], color="#D55E00", lw=2, label=label)
    axes.set(title=f"By {heading}", xlabel=f"share of alive latents with a partner\nby {measure}", xlim=(0, 1.08))
    axes.grid(axis="y", visible=False)


def splitting(path: Path, report: Report, title: str) -> None:
    """Per pair of widths what becomes of the narrower SAE's latents, and how many of the wider one's are new."""
    heading = f"Splitting across widths: {title}"
    pairs = report["splitting"]
    if not pairs:
        empty(path, heading, "the sweep has no members that differ in their width alone", "nothing to compare")
        return
    limit = str(pairs[0]["coverage"]["threshold"])
    note = f"a child: a latent of the wider SAE whose decoder direction has a cosine of at least {limit}; alive latents"
    kinds = {"none": ("no child", "#D9D9D9"), "one": ("one child", "#6BAED6"), "split": ("two or more", "#08519C")}
    with drawing(path, 9.4, 1.9 + 0.36 * len(pairs), heading, note) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
        for place, pair in enumerate(pairs):
            start = 0.0
            for kind, (label, colour) in kinds.items():
                share = pair["observed"][limit][kind]
                left.barh(place, share, left=start, height=0.7, color=colour, label=label if place == 0 else None)
                start += share
            new = pair["observed"][limit]["new"]
            right.barh(place, new, height=0.7, color="#E69F00")
            right.text(new - 0.015, place, f"{new:.2f}", va="center", ha="right", fontsize=7.5)
            right.plot([pair["covariance"][limit]["new"]] * 2, [place - 0.4, place + 0.4], color=GREY, lw=2)
        left.set_yticks(range(len(pairs)), [f"{pair['narrow']} → {pair['latents'][1]:,}" for pair in pairs])
        left.set_ylim(len(pairs) - 0.4, -0.6)
        left.set(xlabel="share of the narrower SAE's latents", xlim=(0, 1), title="What becomes of a latent")
        right.set(
            xlabel="share of the wider SAE's latents\n(grey: random directions)",
            xlim=(0, 1.04),
            title="Without a parent",
        )
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        for axes in (left, right):
            axes.grid(axis="y", visible=False)


MEASURES = {"fraction": "Absorption fraction", "full": "Full absorption", "main": "Main latents active"}


def absorption(path: Path, report: Report, title: str) -> None:
    """Absorption against width: one line per architecture and sparsity, with the null of permuted labels."""
    heading = f"Feature absorption: {title}"
    found = report["absorption"]
    if not found or not any(member["observed"]["fraction"] for member in found["members"].values()):
        empty(path, heading, "it needs labels that a probe can read at this site", "nothing to compare")
        return
    note = (
        f"mean over {found['answered']} targets of labels, test split; whiskers: 95% bootstrap intervals over "
        "episodes; grey: labels of other episodes"
    )
    series = _series(report, found["members"])
    with drawing(path, 9.6, 4.0, heading, note) as figure:
        grid = figure.subplots(1, 3, sharex=True)
        for axes, (measure, label) in zip(grid, MEASURES.items(), strict=True):
            for number, (name, members) in enumerate(series.items()):
                _line(axes, members, measure, COLOURS[number % len(COLOURS)], name)
            axes.set(title=label, xlabel="latents m", ylim=(0, None))
            _widths(axes, report)
        grid[0].set_ylabel("share, mean over targets")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(handles)))


def _series(report: Report, members: Mapping[str, Report]) -> dict[str, dict[int, list[Report]]]:
    """Members by what their name says besides width and seed: name -> width -> one member per seed."""
    found: dict[str, dict[int, list[Report]]] = {}
    for name, member in sorted(members.items(), key=lambda item: report["members"][item[0]]["latents"]):
        if member["observed"]["fraction"]:
            about = report["members"][name]
            kind = name.replace(f"_m{about['latents']}", "").replace(f"_seed{about['seed']}", "")
            found.setdefault(kind, {}).setdefault(about["latents"], []).append(member)
    return dict(sorted(found.items()))


def _line(axes: Axes, series: Mapping[int, Sequence[Report]], measure: str, colour: str, label: str) -> None:
    for kind, own in (("observed", colour), ("permuted", GREY)):
        points = [(m, member[kind][measure]) for m, members in series.items() for member in members]
        points = [(m, estimate) for m, estimate in points if estimate]
        if not points:
            continue
        x, value, low, high = np.array(
            [[m, *(np.nan if e[part] is None else e[part] for part in ("value", "low", "high"))] for m, e in points]
        ).T
        arms = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
        axes.errorbar(x, value, yerr=arms, color=own, fmt="o", markersize=4, capsize=2, elinewidth=1)
        widths = np.unique(x)
        style = {"label": label, "lw": 1.5} if kind == "observed" else {"lw": 0.8, "ls": ":"}
        axes.plot(widths, [value[x == width].mean() for width in widths], color=own, **style)


def _widths(axes: Axes, report: Report) -> None:
    from matplotlib.ticker import NullLocator

    widths = sorted({member["latents"] for member in report["members"].values()})
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [f"{width:,}" for width in widths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(widths[0] / 1.4, widths[-1] * 1.4)
