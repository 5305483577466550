"""index.json of a block of directions: its pairs, how they lie to each other, and what was expected of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.directions.cells import Cells
from policylens.directions.expected import checked
from policylens.directions.pairwise import Pair, statistics
from policylens.directions.vectors import DIRECTIONS
from policylens.stores.files import read_json, read_tensors, sha256_of_file

FORMAT = 1
VECTORS, CELLS = "directions.safetensors", "cells.safetensors"
SHARED = ("policy", "checkpoint", "direction", "site", "sae", "baseline_site")


def read_pair(analysis: Path) -> Pair:
    """A pair's vectors and cells, from the folder of its analysis.json."""
    tensors = read_tensors(analysis.with_name(VECTORS))
    vectors = {name: tensor.double().numpy() for name, tensor in tensors.items() if name in DIRECTIONS}
    cells = analysis.with_name(CELLS)
    return Pair(vectors, Cells.load(cells) if cells.is_file() else None)


def index(analyses: Sequence[Path], expected: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The record. analyses: analysis.json of every pair, in the order of the config."""
    records = {path.parent.name: read_json(path) for path in analyses}
    pairwise = statistics({path.parent.name: read_pair(path) for path in analyses}, seed)
    first = next(iter(records.values()))
    return {
        "format": FORMAT,
        "kind": "directions",
        **{key: first[key] for key in SHARED},
        "gate": first["gate"],
        "pairs": {
            name: {**_of_pair(own), "vectors_sha256": sha256_of_file(path.with_name(VECTORS))}
            for (name, own), path in zip(records.items(), analyses, strict=True)
        },
        "pairwise": pairwise,
        "expected": checked(expected, pairwise),
    }


def _of_pair(own: Mapping[str, Any]) -> dict[str, Any]:
    """What of a pair's analysis the index repeats. gated: its latents are of an SAE that the gate does not let pass."""
    return {
        "positive": own["positive"]["concept"],
        "negative": own["negative"]["concept"],
        "slice": own["slice"],
        "imported": own["imported"],
        "norms": {name: vector["norm"] for name, vector in own["vectors"].items()},
        "reliability": own["reliability"],
        "latents": None if own["latents"] is None else own["latents"]["ranking"][:10],
        "n": own["n"],
        "notes": own["notes"],
        "gated": bool(own["gate"] and not own["gate"]["passed"]),
    }
