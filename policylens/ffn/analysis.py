"""analysis.json: on what units were chosen, how they were clustered, and whether there are clusters at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.ffn.clusters import Clustered, separation, stability
from policylens.ffn.description import ranking
from policylens.ffn.records import Choice, overlap

FORMAT = 1

Record = Mapping[str, Any]


def analysis(
    found: Clustered,
    clusters: Sequence[Record],
    records: Sequence[Record],
    strengths: Mapping[str, Mapping[str, np.ndarray]],
    sites: Sequence[Record],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The record. clusters: clusters.json. records: records.json. strengths, sites: of activations.zarr.

    origin: policy, checkpoint, ffn, the block of config.yaml with its defaults, and language: whether the head that
    tokens were read from has learnt one.
    """
    block = origin["block"]
    settings = block["clusters"]
    choice = Choice(block["top_k_per_layer"], block["minimum"])
    kept = list(dict.fromkeys(record["site"] for record in records))
    halves = overlap(strengths, kept, choice)
    counts = [record["site"] for record in records]
    return {
        "format": FORMAT,
        **{name: origin[name] for name in ("policy", "checkpoint", "ffn")},
        "observations": block.get("source") or ", ".join(block["observations"]),
        "sites": [
            {
                **{name: site[name] for name in ("name", "layer", "width", "rows", "positions")},
                "chosen": counts.count(site["name"]),
                "largest": float(strengths[site["name"]]["max_abs"].max()),
                "halves": halves[site["name"]],
            }
            for site in sites
            if site["name"] in halves
        ],
        "units": len(records),
        "settings": {**settings, **{name: block[name] for name in ("top_k_per_layer", "minimum")}},
        "seed": block["seed"],
        "tokens": any(record["top_tokens"] for record in records),
        "language": origin["language"],
        "separation": separation(found, settings["clouds"]),
        "stability": stability(found, settings["clouds"]),
        "ranking": ranking(clusters, settings["keywords"]),
    }
