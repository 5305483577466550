"""Figures of directions: how long they are, how they lie to each other, how far they can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing, empty, whiskers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "latent_direction": "latent direction",
    "residual_direction": "residual direction",
    "residual_direction_with_bias": "residual direction with bias",
    "mean_difference": "mean difference",
    "probe": "probe",
    "baseline": "mean difference at the baseline site",
}
COLOURS = {
    "latent_direction": "#0072B2",
    "residual_direction": "#D55E00",
    "residual_direction_with_bias": "#E69F00",
    "mean_difference": "#009E73",
    "probe": "#CC79A7",
    "baseline": "#56B4E9",
}
PANELS = {"latent": "latents", "activation": "activation units", "log-odds": "log-odds per activation unit"}
IN_LATENTS, IN_LOG_ODDS = ("latent_direction",), ("probe",)
STATISTICS = {"latent": "latent direction", "residual": "residual direction", "mean_difference": "mean difference"}
"""Of a matrix each; the residual direction with bias stands in for the one without where that is not known."""


def draw_norms(path: Path, record: Mapping[str, Any]) -> None:
    """Norm of every vector of every pair, vectors of one unit in one panel. record: index.json."""
    pairs = record["pairs"]
    names = [name for name in NAMES if any(name in own["norms"] for own in pairs.values())]
    groups = {unit: [name for name in names if _unit(name) == unit] for unit in PANELS}
    groups = {unit: own for unit, own in groups.items() if own}
    with drawing(
        path, 3.4 * len(groups) + 1.6, 2.0 + 0.36 * len(pairs), _title("Lengths of directions", record), _note(record)
    ) as figure:
        axes = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for own, (unit, vectors) in zip(axes, groups.items(), strict=True):
            _bars(own, pairs, vectors)
            own.set_xlabel(f"norm ({PANELS[unit]})")
        axes[0].set_yticks(range(len(pairs)), list(pairs))
        axes[0].invert_yaxis()
        axes[0].set_ylabel("pair")
        handles = {h.get_label(): h for own in axes for h in own.get_legend_handles_labels()[0]}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)


def _unit(name: str) -> str:
    return "latent" if name in IN_LATENTS else "log-odds" if name in IN_LOG_ODDS else "activation"


def _bars(axes: Axes, pairs: Mapping[str, Any], vectors: list[str]) -> None:
    height = 0.8 / len(vectors)
    for place, name in enumerate(vectors):
        values = [own["norms"].get(name, np.nan) for own in pairs.values()]
        at = np.arange(len(pairs)) + (place - (len(vectors) - 1) / 2) * height
        axes.barh(at, values, height, color=COLOURS[name], label=NAMES[name])
    axes.grid(axis="y", visible=False)


def draw_cosines(path: Path, record: Mapping[str, Any]) -> None:
    """Cosines between pairs, one matrix per vector; in brackets the 95% interval over episodes."""
    names = list(record["pairs"])
    shown = {name: title for name, title in _shown(record).items() if any(e[name] for e in record["pairwise"])}
    if not shown:
        empty(
            path,
            _title("Cosines between directions", record),
            _note(record),
            "there is one pair alone: nothing to compare",
        )
        return
    size = 1.6 + 0.75 * len(names)
    with drawing(
        path, size * len(shown) + 1.6, size + 1.4, _title("Cosines between directions", record), _note(record)
    ) as figure:
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for own, (name, title) in zip(axes, shown.items(), strict=True):
            image = _matrix(own, names, record["pairwise"], name)
            own.set_title(title)
            own.set_xlabel("pair")
        axes[0].set_ylabel("pair")
        figure.colorbar(image, ax=list(axes), shrink=0.8, label="cosine")


def _shown(record: Mapping[str, Any]) -> dict[str, str]:
    if any(entry["residual"] for entry in record["pairwise"]):
        return STATISTICS
    return {
        "latent": "latent direction",
        "residual_with_bias": "residual direction with bias",
        "mean_difference": "mean difference",
    }


def _matrix(axes: Axes, names: list[str], found: list[Mapping[str, Any]], statistic: str) -> Any:
    values = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(values, 1.0)
    for entry in found:
        own = entry[statistic]
        if own is None or own["cosine"] is None:
            continue
        places = names.index(entry["a"]), names.index(entry["b"])
        for row, column in (places, places[::-1]):
            values[row, column] = own["cosine"]
            ends = "" if own["low"] is None else f"\n[{own['low']:.2f}, {own['high']:.2f}]"
            dark = abs(own["cosine"]) > 0.6
            axes.text(
                column, row, f"{own['cosine']:.3f}{ends}", ha="center", va="center", fontsize=6.5,
                color="white" if dark else "black",
            )  # fmt: skip
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    return image


def draw_reliability(path: Path, record: Mapping[str, Any]) -> None:
    """Split-half cosine and held-out AUC of every pair, with 95% intervals over episodes; AUC beside its null."""
    pairs = {name: own for name, own in record["pairs"].items() if own["reliability"]}
    title = _title("Reliability of directions", record)
    if not pairs:
        empty(path, title, _note(record), "no pair has rows whose episodes are known")
        return
    vectors = [name for name in NAMES if any(name in own["reliability"] for own in pairs.values())]
    note = f"{_note(record)}; bars: 95% over episodes; grey: 95% of rearranged concepts stay below"
    with drawing(path, 10, 2.1 + 0.16 * len(pairs) * len(vectors) + 0.2 * len(pairs), title, note) as figure:
        halves, held_out = figure.subplots(1, 2, sharey=True)
        for place, name in enumerate(vectors):
            _dots(halves, held_out, pairs, name, (place - (len(vectors) - 1) / 2) * 0.8 / len(vectors))
        halves.set(xlabel="cosine of two halves of the episodes", ylabel="pair")
        halves.axvline(0, color=GREY, lw=0.8)
        held_out.set(xlabel="AUC of held-out episodes")
        held_out.axvline(0.5, color=GREY, lw=0.8)
        halves.set_yticks(range(len(pairs)), list(pairs))
        halves.set_ylim(len(pairs) - 0.4, -0.6)
        handles, labels = held_out.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _dots(halves: Axes, held_out: Axes, pairs: Mapping[str, Any], name: str, shift: float) -> None:
    style = {"fmt": "o", "ms": 4, "color": COLOURS[name], "capsize": 2, "lw": 1.2}
    labelled = False
    for row, own in enumerate(pairs.values()):
        found = own["reliability"].get(name)
        if found is None:
            continue
        if found["split_half"]:
            value, ends = whiskers(found["split_half"])
            halves.errorbar(value, row + shift, xerr=ends, **style)
        if found["held_out"]:
            value, ends = whiskers(found["held_out"]["auc"])
            held_out.errorbar(value, row + shift, xerr=ends, label=None if labelled else NAMES[name], **style)
            labelled = True
            if found["held_out"]["null_q95"] is not None:
                held_out.plot(found["held_out"]["null_q95"], row + shift, "|", ms=9, mew=2, color=GREY)


def _title(what: str, record: Mapping[str, Any]) -> str:
    return f"{what}: {record['policy']} / {record['checkpoint']} / {record['site']}"


def _note(record: Mapping[str, Any]) -> str:
    gated = " (gated: nothing is concluded from latents)" if record["gate"] and not record["gate"]["passed"] else ""
    return f"directions {record['direction']}, {'SAE ' + record['sae'] if record['sae'] else 'no SAE'}{gated}"
