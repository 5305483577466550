"""Figures of correlations: inputs against latents at a site, and the strongest of each input across sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {"pearson": "Pearson's r", "spearman": "Spearman's r"}
LATENTS = 40
INPUTS = 40
"""So many are shown: those with the largest |r|, inputs in their own order."""
LEVEL = 0.05
LATENT, UNIT, NULL = "#0072B2", "#D55E00", "#D9D9D9"
DARK = 0.6
"""Dots are white on cells of such a share of the largest |r|."""
ROW = 0.17
"""Inches per input."""


def heat_map(
    path: Path, found: Mapping[str, np.ndarray], inputs: Sequence[Mapping[str, Any]], title: str, note: str
) -> None:
    """Inputs (rows) against the latents that follow any of them most (columns), Pearson beside Spearman.

    found: the group "inputs" of the store. Columns are ordered by the input that they follow most in Pearson's r, so
    that latents of one input stand together. A dot marks adjusted p <= .05.
    """
    r = found["pearson"]
    rows = strongest(np.abs(r).max(1), INPUTS)
    columns = _by_input(r[rows], LATENTS)
    names = [label(inputs[row], found["constant"][row]) for row in rows]
    limit = max(float(np.abs(found[measure][np.ix_(rows, columns)]).max()) for measure in MEASURES) or 1.0
    shown = f"{note}; dot: adjusted p <= .05" if "pearson_adjusted_p" in found else note
    if len(rows) < len(inputs):
        shown += f"; the {len(rows)} inputs of {len(inputs)} with the largest |r|"
    heading = f"Inputs and the latents that follow them: {title}"
    with drawing(path, 11.5, 1.5 + ROW * max(len(rows), 12), heading, shown) as figure:
        axes = figure.subplots(1, len(MEASURES), sharey=True)
        for own, (measure, name) in zip(axes, MEASURES.items(), strict=True):
            own.set(title=name, xlabel=f"latent (the {len(columns)} of {r.shape[1]} with the largest |r|)")
            image = own.imshow(
                found[measure][np.ix_(rows, columns)], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
            )
            _dots(own, found, measure, rows, columns)
            own.set_xticks(range(len(columns)), [str(latent) for latent in columns], rotation=90, fontsize=6)
            own.set_yticks(range(len(rows)), names, fontsize=7)
            own.grid(False)
        axes[0].set_ylabel("input")
        figure.colorbar(image, ax=list(axes), shrink=0.8, label="correlation")


def _dots(axes: Axes, found: Mapping[str, np.ndarray], measure: str, rows: np.ndarray, columns: np.ndarray) -> None:
    if f"{measure}_adjusted_p" not in found:
        return
    y, x = np.nonzero(found[f"{measure}_adjusted_p"][np.ix_(rows, columns)] <= LEVEL)
    dark = np.abs(found[measure][rows[y], columns[x]]) > DARK * np.abs(found[measure][np.ix_(rows, columns)]).max()
    axes.scatter(x, y, s=2.5, c=np.where(dark, "white", "black"), linewidths=0)


def _by_input(r: np.ndarray, count: int) -> np.ndarray:
    """The strongest latents, those of one input together, the strongest of them first."""
    sizes = np.abs(r)
    chosen = np.argsort(-sizes.max(0), kind="stable")[:count]
    return chosen[np.lexsort((-sizes[:, chosen].max(0), sizes[:, chosen].argmax(0)))]


def across_sites(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Per site the largest |r| of each input with any latent and any unit, beside the null. records: analysis.json."""
    first = records[0]
    every = {own["name"]: own for record in records for own in record["inputs"]}
    largest = {
        name: max(own["pearson"]["max"] for record in records for own in record["inputs"] if own["name"] == name)
        for name in every
    }
    names = [list(every)[place] for place in strongest(np.array(list(largest.values())), INPUTS)]
    width, columns = 2.6 + 2.3 * len(records), 3 if len(records) > 1 else 1
    note = f"Pearson; split {first['split']}, {first['n_rows']:,} rows of {first['n_episodes']:,} episodes"
    if len(names) < len(every):
        note += f"; {len(names)} of {len(every)} inputs"
    heading = f"What latents follow, by site: {first['policy']} / {first['checkpoint']}"
    with drawing(path, width, 1.9 + ROW * max(len(names), 8), heading, note) as figure:
        grid = figure.subplots(1, len(records), sharex=True, sharey=True, squeeze=False)[0]
        for axes, record in zip(grid, records, strict=True):
            _site(axes, record, names)
        grid[0].set_yticks(
            range(len(names)), [label(every[name], every[name]["constant"]) for name in names], fontsize=7
        )
        grid[0].set_ylim(len(names) - 0.5, -0.5)
        grid[0].set_xlim(0, 1)
        grid[0].set_ylabel("input")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def _site(axes: Axes, record: Mapping[str, Any], names: Sequence[str]) -> None:
    own = {entry["name"]: entry["pearson"] for entry in record["inputs"]}
    places = np.array([place for place, name in enumerate(names) if name in own])
    entries = [own[names[place]] for place in places]
    if record["null"]:
        bars = [entry["null"]["q95"] for entry in entries]
        axes.barh(places, bars, height=1.0, color=NULL, label="latents, 95% of shifts in time stay within")
    units = [abs(entry["unit"]["r"]) for entry in entries]
    latents = [entry["max"] for entry in entries]
    axes.hlines(places, np.minimum(units, latents), np.maximum(units, latents), color=GREY, lw=0.8)
    axes.plot(units, places, "s", ms=3.6, mfc="white", mec=UNIT, label="best unit of the site")
    axes.plot(latents, places, "o", ms=4, color=LATENT, label="best latent")
    candidates = f"{record['n_active']} latents, {record['n_units']} units"
    axes.set(title=record["site"], xlabel=f"largest |r|\n({candidates})")


def strongest(sizes: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest numbers, in ascending order of place."""
    return np.sort(np.argsort(-sizes, kind="stable")[:count])


def label(entry: Mapping[str, Any], constant: bool) -> str:
    """An input as axes name it: with its unit, where it has one."""
    unit = "" if entry["unit"] == "1" else f" ({entry['unit']})"
    return f"{entry['name']}{unit}{', constant' if constant else ''}"
