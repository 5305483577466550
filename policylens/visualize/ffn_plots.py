"""The map of units of feed-forward layers: near each other where they write alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policylens.visualize.figure import GREY, drawing
from policylens.visualize.members import MARKERS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
# Okabe and Ito's palette, told apart by the colour-blind; clusters of one colour differ in their marks.
LISTED = 14
"""So many clusters are named in the legend; of more there are the numbers alone."""
TOKENS = 3

Record = Mapping[str, Any]


def map_of_units(
    path: Path, places: np.ndarray, labels: np.ndarray, clusters: Sequence[Record], record: Record
) -> None:
    """A point per unit. places: (n, 2), of t-SNE. labels: (n,). clusters: clusters.json. record: analysis.json."""
    space = "value vectors" if record["settings"]["space"] == "weight" else "mean embeddings of top tokens"
    sites = [site["name"] for site in record["sites"]]
    where = ", ".join(sites) if len(sites) <= 2 else f"{sites[0]} to {sites[-1]} ({len(sites)} sites)"
    own, null = (part["silhouette"] for part in (record["separation"], record["separation"]["nulls"]["cloud"]))
    note = (
        f"{where}: {record['units']} units by their {space}, {len(clusters)} clusters; mean silhouette "
        f"{own:.3f}, of single clouds up to {null['high']:.3f}"
    )
    title = f"FFN units: {record['policy']} / {record['checkpoint']} / {record['ffn']}"
    with drawing(path, 8.6, 5.4, title, note) as figure:
        axes = figure.subplots()
        for number, one in enumerate(clusters):
            own = places[labels == number]
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS) % len(MARKERS)]}
            axes.scatter(*own.T, s=20, alpha=0.75, linewidths=0, label=_named(one), **look)
        for number in range(len(clusters)):
            middle = np.median(places[labels == number], axis=0)
            box = {
                "boxstyle": "round,pad=0.15",
                "facecolor": "white",
                "edgecolor": GREY,
                "linewidth": 0.6,
                "alpha": 0.85,
            }
            axes.annotate(str(number), middle, ha="center", va="center", fontsize=8, fontweight="bold", bbox=box)
        axes.set_xlabel("t-SNE 1 (no unit: only who is near whom counts)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[:LISTED], names[:LISTED], loc="outside right center", title="cluster: units")


def _named(one: Record) -> str:
    """Number and size of a cluster, and its first tokens."""
    tokens = [_drawable(entry["token"]) for entry in one["token_summary"][:TOKENS]]
    said = ", ".join(token for token in tokens if token)
    return f"{one['cluster_id']}: {one['size']}" + (f" ({said})" if said else "")


def _drawable(token: str) -> str:
    """Without signs that the font lacks, and without markup."""
    text = token.replace("\u2581", " ").strip()
    return "".join(sign for sign in text if sign.isprintable() and sign != "$" and ord(sign) < 0x250)[:12]
