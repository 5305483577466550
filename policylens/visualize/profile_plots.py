"""Figures of causal profiles: latents in clusters, and effects by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.interventions.profiles import profiles
from policylens.visualize.figure import GREY, drawing, empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#8A8A8A", "#332288", "#44AA99")
UNITS = 60
ACROSS = 3
SHOWN = 16


def clusters(
    path: Path,
    record: Mapping[str, Any] | None,
    effects: Mapping[str, np.ndarray],
    latents: np.ndarray,
    title: str,
    note: str,
) -> None:
    """Profiles in the order of their clusters, how alike they are, and how far the clustering can be trusted.

    record: an entry of analysis.json's `clusters`. effects: outcome -> (k, units), what more of each of
    `latents`, (k,), does.
    """
    heading = f"Latents by causal profile: {title}"
    if record is None:
        empty(path, heading, note, "too few latents do anything in every half of the episodes")
        return
    order = np.concatenate([np.searchsorted(latents, cluster["latents"]) for cluster in record["clusters"]])
    sizes = [len(cluster["latents"]) for cluster in record["clusters"]]
    whole = profiles(effects)[order]
    with drawing(path, 13.5, 6.0, heading, note) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.5, 1.1, 1.0])
        _profiles(figure, left, whole, effects, sizes)
        _alike(figure, middle, whole, sizes)
        _trust(right, record)


def _profiles(
    figure: Any, axes: Axes, whole: np.ndarray, effects: Mapping[str, np.ndarray], sizes: Sequence[int]
) -> None:
    """The units that vary most over latents, outcome by outcome."""
    outcome_of = np.repeat(np.arange(len(effects)), [values.shape[1] for values in effects.values()])
    shown = np.sort(np.argsort(-(whole**2).sum(0), kind="stable")[:UNITS])
    limit = float(np.percentile(np.abs(whole[:, shown]), 98)) or 1.0
    image = axes.imshow(whole[:, shown], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    _borders(axes, sizes)
    ticks, names = [], []
    for number, name in enumerate(effects):
        places = np.flatnonzero(outcome_of[shown] == number)
        if len(places):
            ticks.append(places.mean())
            names.append(name)
            axes.axvline(places[-1] + 0.5, color="black", lw=0.5)
    axes.set_xticks(ticks, names, rotation=60, ha="right", fontsize=7)
    total = len(outcome_of)
    what = "all units" if total <= UNITS else f"the {UNITS} of {total} units with most of the length"
    axes.set(title="causal profiles", xlabel=what, ylabel="latents, by cluster")
    axes.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the profile")


def _alike(figure: Any, axes: Axes, whole: np.ndarray, sizes: Sequence[int]) -> None:
    image = axes.imshow(whole @ whole.T, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    _borders(axes, sizes)
    for end in np.cumsum(sizes)[:-1]:
        axes.axvline(end - 0.5, color="black", lw=0.5)
    axes.set(title="cosine between latents", xlabel="latents, by cluster")
    axes.set_xticks([])
    axes.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.7)


def _borders(axes: Axes, sizes: Sequence[int]) -> None:
    """Lines between clusters, and their numbers."""
    ends = np.cumsum(sizes)
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="black", lw=0.5)
    names = [f"{number} ({size})" for number, size in enumerate(sizes)]
    axes.set_yticks(ends - np.array(sizes) / 2 - 0.5, names, fontsize=7)


def _trust(axes: Axes, record: Mapping[str, Any]) -> None:
    """Silhouette and adjusted Rand indices, each beside its null."""
    null = record["silhouette_of_clouds"]
    best = record["silhouettes"][str(record["count"])]
    bars = [("silhouette", best, COLOURS[0]), ("  of single clouds, 95%", null["high"], GREY)]
    found = record["stability"]
    if found:
        bars += [
            ("adjusted Rand,\nhalves of episodes", found["halves"]["mean"], COLOURS[0]),
            ("  seeds", found["seeds"]["mean"], COLOURS[0]),
            ("  single clouds, 95%", found["clouds"]["high"], GREY),
            ("  permuted, 95%", found["permuted_high"], GREY),
            ("cosine of a latent's\nprofile between halves", found["reliability"], COLOURS[0]),
            ("  of two latents", found["reliability_of_others"], GREY),
        ]
    places = np.arange(len(bars))[::-1]
    axes.barh(places, [value for _, value, _ in bars], color=[colour for *_, colour in bars], height=0.7)
    reaches = [value for _, value, _ in bars]
    if found:
        reaches[2] = max(found["halves"]["values"])
    for place, reach, (_, value, _) in zip(places, reaches, bars, strict=True):
        axes.text(max(reach, 0) + 0.02, place, f"{value:.2f}", va="center", fontsize=8)
    if found:
        halves = places[2]
        axes.plot(found["halves"]["values"], [halves] * len(found["halves"]["values"]), "|", color="black", ms=9)
    axes.set_yticks(places, [name for name, *_ in bars], fontsize=8)
    axes.set(title="can it be trusted?", xlim=(min(0, *(value for _, value, _ in bars)) - 0.02, 1.15))
    axes.grid(axis="y", visible=False)


def phases(
    path: Path, record: Mapping[str, Mapping[str, Any]] | None, names: Sequence[str] | None, title: str, note: str
) -> None:
    """Per outcome the latents with the largest effects among those that matter in one phase, and their effects in all.

    record: outcome -> an entry of analysis.json's `phases`. names: of the phases.
    """
    heading = f"Effects by phase: {title}"
    shown = {name: found for name, found in (record or {}).items() if found["latents"]}
    if not names or not shown:
        empty(path, heading, note, "no latent matters in one phase alone" if names else "no phases were asked for")
        return
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    with drawing(path, 3.9 * across + 1.8, 0.7 + 3.3 * rows, heading, note) as figure:
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, (outcome, found) in zip(grid, shown.items(), strict=False):
            _phase_bars(axes, outcome, found, names)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")


def _phase_bars(axes: Axes, outcome: str, found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Dots: mean effect in each phase, one line per latent."""
    each = -(-SHOWN // len(names))
    entries = [e for p in range(len(names)) for e in [f for f in found["latents"] if f["phase"] == p][:each]]
    places = np.arange(len(entries))[::-1]
    for phase, name in enumerate(names):
        sizes = [entry["size"][phase] if entry["size"][phase] is not None else np.nan for entry in entries]
        axes.plot(sizes, places, "o", ms=6, color=COLOURS[phase % len(COLOURS)], label=name, alpha=0.85)
    axes.hlines(places, 0, [max(s or 0 for s in entry["size"]) for entry in entries], color="#CCCCCC", zorder=0)
    axes.set_yticks(places, [f"{entry['latent']} ({entry['share']:.0%})" for entry in entries], fontsize=7)
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        label.set_color(COLOURS[entry["phase"] % len(COLOURS)])
    title = f"on {outcome}: {found['significant']} of {found['tested']} latents"
    axes.set(title=title, xlabel="mean |effect| in the phase's rows", ylabel="latent (share in its phase)")
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
