"""Figures of interventions: causal matrices, the strongest latents, and random directions beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing, empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"isotropic": "#56B4E9", "covariance": "#E69F00", "units": "#6A3D9A"}
OWN = "#D55E00"
BAR = "#0072B2"
ACROSS = 3
PLACED = 40
"""So many latents fit below an axis."""


def matrices(path: Path, effects: Mapping[str, np.ndarray], latents: np.ndarray, title: str, note: str) -> None:
    """A heat map per outcome: mean effect of each changed latent (rows) on each unit (columns).

    effects: outcome -> (latents, units). Colours reach to the 99th percentile of |effect| of the outcome; rows are
    in the order given (strongest first), columns of more than 60 units are the 60 that are moved most.
    """
    count = len(effects)
    rows = -(-count // ACROSS)
    heading = f"Mean effect of changing one latent: {title}"
    with drawing(path, 4.6 * min(count, ACROSS), 0.7 + 4.4 * rows, heading, note) as figure:
        grid = figure.subplots(rows, min(count, ACROSS), squeeze=False).ravel()
        for axes, (outcome, values) in zip(grid, effects.items(), strict=False):
            _matrix(figure, axes, outcome, values, latents)
        for axes in grid[count:]:
            axes.set_axis_off()


def _matrix(figure: Any, axes: Axes, outcome: str, values: np.ndarray, latents: np.ndarray) -> None:
    moved = np.sort(np.argsort(-np.abs(values).mean(0), kind="stable")[:60])
    limit = float(np.percentile(np.abs(values), 99)) or 1.0
    image = axes.imshow(
        values[:, moved], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    few = values.shape[1] == len(moved)
    axes.set(
        title=f"on {outcome}",
        xlabel="unit" if few else f"the 60 units of {values.shape[1]} that are moved most",
        ylabel="latent changed",
    )
    axes.set_yticks(range(len(latents)), [str(latent) for latent in latents], fontsize=6)
    if len(moved) <= 12:
        axes.set_xticks(range(len(moved)), [str(unit) for unit in moved])
    else:
        axes.set_xticks([])
    axes.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="mean effect (own units)")


def importance(path: Path, rankings: Mapping[str, Sequence[Mapping[str, Any]]], title: str, note: str) -> None:
    """Per outcome the strongest latents: norm of the mean effect, and how often the change applies."""
    shown = {name: entries[:12] for name, entries in rankings.items() if entries}
    if not shown:
        empty(path, f"Strongest latents: {title}", note, "no latent has an effect")
        return
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    with drawing(path, 3.4 * across, 0.7 + 2.9 * rows, f"Strongest latents: {title}", note) as figure:
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, (outcome, entries) in zip(grid, shown.items(), strict=False):
            places = np.arange(len(entries))[::-1]
            axes.barh(places, [entry["norm"] for entry in entries], color=BAR, height=0.7)
            axes.set_yticks(places, [f"{entry['latent']} ({entry['rows']:.0%})" for entry in entries], fontsize=7)
            axes.set(title=f"on {outcome}", xlabel="norm of the mean effect", ylabel="latent (rows changed)")
            axes.grid(axis="y", visible=False)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()


def controls(path: Path, compared: Mapping[str, Mapping[str, Any] | None], title: str, note: str) -> None:
    """Effects of latents as shares of the median effect of random directions of equal per-row norm.

    compared: outcome -> `policylens.interventions.analysis.against_controls`. A mark above 1 is stronger than half of
    the directions; filled where it is stronger than nearly all, after correction (adjusted p <= .05).
    """
    shown = {name: record for name, record in compared.items() if record}
    heading = f"Latents against random directions: {title}"
    if not shown:
        empty(path, heading, note, "no controls were asked for")
        return
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    with drawing(path, 3.4 * across + 1.4, 0.7 + 2.6 * rows, heading, note) as figure:
        grid = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, (outcome, record) in zip(grid, shown.items(), strict=False):
            _against(axes, outcome, record)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")


def _against(axes: Axes, outcome: str, record: Mapping[str, Any]) -> None:
    latents = record["latents"]
    order = np.argsort(-np.array(record["isotropic_norm"]["effect"]), kind="stable")[:PLACED]
    places = np.arange(len(order))
    axes.axhline(1, color=GREY, lw=1)
    for kind, marker in (("isotropic", "o"), ("covariance", "s")):
        own = record[f"{kind}_norm"]
        median = np.array(own["median"])[order]
        ratio = np.divide(np.array(own["effect"])[order], median, out=np.full(len(order), np.nan), where=median > 0)
        found = np.array(own["adjusted_p"])[order] <= 0.05
        colour = COLOURS[kind]
        label = f"{kind} directions"
        axes.plot(places, ratio, marker, ms=5, mec=colour, mfc="none", label=label)
        axes.plot(places[found], ratio[found], marker, ms=5, mec=colour, mfc=colour, label=f"{label}, p <= .05")
    axes.set_xticks(places, [str(latents[place]) for place in order], rotation=90, fontsize=6)
    shown = "latent" if len(order) == len(latents) else f"latent ({len(order)} strongest of {len(latents)})"
    axes.set(title=f"on {outcome}", xlabel=shown, ylabel="effect / median of directions")
    axes.set_ylim(bottom=0)
