"""Figures of circuits: the graph from inputs to the output, and how faithful circuits of every size are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN, BUSIEST, COMPLEMENT = "#0072B2", "#E69F00", "#009E73"
MORE, LESS = "#D55E00", "#0072B2"
EDGES = 60
INPUT_EDGES = 24
Place = tuple[float, float]


def faithfulness(path: Path, record: Mapping[str, Any]) -> None:
    """Faithfulness and completeness over size, beside random circuits and the busiest latents."""
    with drawing(path, 10.5, 4.3, _title("Faithfulness", record), _note(record)) as figure:
        left, right = figure.subplots(1, 2)
        curve = record["curve"]
        sizes = [entry["size"] for entry in curve]
        if curve[0]["random"]:
            low, median, high = ([entry["random"][key] for entry in curve] for key in ("low", "median", "high"))
            left.fill_between(sizes, low, high, color="#DDDDDD", lw=0, label="random circuits, 90%")
            left.plot(sizes, median, color=GREY, lw=1, label="random circuits, median")
        _line(left, sizes, [entry["by_activity"] for entry in curve], BUSIEST, "busiest latents")
        _line(left, sizes, [entry["faithfulness"] for entry in curve], OWN, "circuit")
        _line(right, sizes, [entry["completeness"] for entry in curve], COMPLEMENT, "all but the circuit")
        for axes, name in ((left, "faithfulness"), (right, "completeness (0 is complete)")):
            axes.axhline(0, color="black", lw=0.6)
            axes.axhline(1, color="black", lw=0.6, ls=":")
            log_axis(axes, "x")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.set(title=name, xlabel="latents in the circuit", ylabel="share of what all latents do")
            axes.legend()


def _line(axes: Axes, sizes: Sequence[int], found: Sequence[Mapping[str, Any]], colour: str, label: str) -> None:
    value, low, high = (
        np.array([np.nan if entry[key] is None else entry[key] for entry in found]) for key in ("value", "low", "high")
    )
    arms = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
    axes.errorbar(sizes, value, arms, color=colour, marker="o", ms=4, lw=1.5, capsize=2, label=label)


def graph(path: Path, record: Mapping[str, Any]) -> None:
    """Columns: inputs, the sites in the order of the pass, the output. Rows: the strongest on the output at the top."""
    places, labels, colours = _layout(record)
    rows = max(sum(x == column for x, _ in places.values()) for column in {x for x, _ in places.values()})
    columns = 2 + len(record["sites"])
    with drawing(
        path, 2.6 * columns + 1.2, max(3.6, 1.1 + 0.3 * rows), _title("Circuit", record), _note(record, drawn=True)
    ) as figure:
        axes = figure.subplots()
        _edges(axes, record, places)
        for key, (x, y) in places.items():
            box = {"boxstyle": "round,pad=0.25", "fc": colours[key], "ec": "#555555", "lw": 0.6}
            axes.text(x, y, labels[key], ha="center", va="center", fontsize=7, bbox=box, zorder=3)
        names = ["inputs" if record["inputs"] else "", *record["sites"], "output"]
        for column, name in enumerate(names):
            axes.text(column, 1.04, name, ha="center", fontweight="bold", fontsize=9)
        for colour, name in ((MORE, "raises it"), (LESS, "lowers it"), (GREY, "either way")):
            axes.plot([], [], color=colour, lw=2, label=name)
        axes.legend(title="changing it", loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.05, 1.1))
        axes.set_axis_off()


def _layout(record: Mapping[str, Any]) -> tuple[dict[Any, Place], dict[Any, str], dict[Any, str]]:
    """Node -> place, text and colour. Nodes are (site, latent), ("input", name) and ("output",)."""
    columns: list[list[Any]] = [[("input", entry["name"]) for entry in (record["inputs"] or {}).get("strongest", [])]]
    for site in record["sites"]:
        own = sorted((n for n in record["nodes"] if n["site"] == site), key=lambda node: -node["effect"])
        columns.append([(site, node["latent"]) for node in own])
    columns.append([("output",)])
    places = {
        key: (float(x), 1 - (row + 0.5) / len(column))
        for x, column in enumerate(columns)
        for row, key in enumerate(column)
    }
    labels = {key: record["output"]["name"] if key == ("output",) else str(key[1]) for key in places}
    fills = {"input": "#F3EBD8", "output": "#DDEBDD"}
    return places, labels, {key: fills.get(key[0], "#E4EEF7") for key in places}


def _edges(axes: Axes, record: Mapping[str, Any], places: Mapping[Any, Place]) -> None:
    """The strongest edges of each kind; widths in proportion to the strongest of the kind."""
    between = sorted(record["edges"], key=lambda edge: -edge["share"])[:EDGES]
    ends = [((tuple(e["from"]), tuple(e["to"])), e["share"], np.sign(e["mean"]) * (abs(e["mean"]) > e["size"] / 2))
            for e in between]  # fmt: skip
    _lines(axes, places, ends)
    out = [
        (((node["site"], node["latent"]), ("output",)), node["effect"], node["sign"] or 0) for node in record["nodes"]
    ]
    _lines(axes, places, out)
    if record["inputs"] and record["nodes"]:
        first = record["sites"][0]
        into = [
            ((("input", entry["name"]), (first, share["latent"])), share["share"], 0)
            for entry in record["inputs"]["strongest"]
            for share in entry["shares"]
        ]
        _lines(axes, places, sorted(into, key=lambda edge: -edge[1])[:INPUT_EDGES])


def _lines(axes: Axes, places: Mapping[Any, Place], edges: Sequence[tuple[tuple[Any, Any], float, float]]) -> None:
    strongest = max((size for _, size, _ in edges), default=0) or 1.0
    for (start, end), size, sign in edges:
        (x, y), (to_x, to_y) = places[start], places[end]
        colour = GREY if not sign else MORE if sign > 0 else LESS
        weight = size / strongest
        t = np.linspace(0, 1, 24)
        bend = 3 * t**2 - 2 * t**3
        axes.plot(
            x + (to_x - x) * t, y + (to_y - y) * bend, color=colour, lw=0.3 + 3 * weight, alpha=0.15 + 0.6 * weight
        )


def _title(what: str, record: Mapping[str, Any]) -> str:
    size = f", {record['size']} latents" if what == "Circuit" else ""
    return f"{what} of {record['output']['name']}{size}: {record['policy']} / {record['checkpoint']}"


def _note(record: Mapping[str, Any], drawn: bool = False) -> str:
    """drawn: whether to say how faithful the circuit is that is drawn."""
    own = next((entry["faithfulness"]["value"] for entry in record["curve"] if entry["size"] == record["size"]), None)
    chosen, scored = record["chosen_on"], record["scored_on"]
    return (
        f"outside the circuit: {record['mode']}; chosen on {chosen['split']}, scored on {scored['n_rows']:,} rows of "
        f"{scored['n_episodes']:,} episodes ({scored['split']})"
        + (f"; faithfulness {own:.2f}" if drawn and own is not None else "")
    )
