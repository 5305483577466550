"""A slice on disk: rows.zarr, and index.json, which says what they are. docs/formats.md is normative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.files import read_json, sha256_of_file, write_json
from policylens.stores.groups import Groups
from policylens.stores.names import slugs
from policylens.stores.schemas import check_against
from policylens.stores.store import ROOT, StoreWriter
from policylens.stores.tables import INDEX

ROWS = "rows.zarr"
SPACE = "row"
FORMAT = 1


@dataclass(frozen=True)
class Part:
    """The rows of one concept, each array (n,) int64.

    rows: numbers in the capture (of an import: in the order of its files). episodes, steps: -1 where not known. texts:
    places in the slice's list of instructions, -1 where not known. values: (n, d) float32 of an import, else None.
    """

    rows: np.ndarray
    episodes: np.ndarray
    steps: np.ndarray
    texts: np.ndarray
    values: np.ndarray | None = None


def write_slice(
    folder: Path,
    parts: Mapping[str, Part],
    texts: Sequence[str],
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write a slice. texts: the instructions. facts: what else index.json says; `site`: of an import's activations."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    names = list(parts)
    with StoreWriter(folder / ROWS, "slice", {"provenance": dict(provenance), "concepts": names}) as store:
        group = store.group(SPACE, ("episode", "step"))
        for code, part in enumerate(parts.values()):
            columns = {"concept": np.full(len(part.rows), code), "row": part.rows, "episode": part.episodes}
            columns |= {"step": part.steps, "text": part.texts}
            if code == 0:
                for name in columns:
                    group.column(name, np.int64)
                if part.values is not None:
                    group.column(facts["site"], np.float32, part.values.shape[1:])
            own = {} if part.values is None else {facts["site"]: part.values}
            group.append({**{name: values.astype(np.int64) for name, values in columns.items()}, **own})
    write_json(folder / INDEX, record(folder, parts, texts, facts))


def record(folder: Path, parts: Mapping[str, Part], texts: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """index.json: facts, and per concept how many rows, frames, episodes and instructions it has."""
    names = slugs(parts)
    concepts = {text: {"slug": names[text], **_counts(part, texts)} for text, part in parts.items()}
    made = {
        "format": FORMAT,
        "kind": "slice",
        **facts,
        "concepts": concepts,
        "instructions": list(texts),
        "sha256": sha256_of_file(folder / ROWS / ROOT),
    }
    check_against("slice", made, folder / INDEX)
    return made


def _counts(part: Part, texts: Sequence[str]) -> dict[str, Any]:
    known = part.episodes >= 0
    frames = np.unique(np.stack([part.episodes, part.steps]), axis=1).shape[1]
    codes, rows = np.unique(part.texts[part.texts >= 0], return_counts=True)
    return {
        "rows": len(part.rows),
        "frames": int(frames) if known.all() else None,
        "episodes": len(np.unique(part.episodes)) if known.all() else None,
        "instructions": {texts[code]: int(count) for code, count in zip(codes, rows, strict=True)},
    }


@dataclass(frozen=True)
class Slice:
    """A slice that was read. record: index.json. parts: concept -> rows."""

    folder: Path
    record: Mapping[str, Any]
    parts: Mapping[str, Part]

    def concept(self, text: str) -> Part:
        """The rows of a concept; UserError if there is none of that text."""
        if text not in self.parts:
            raise UserError(f"{self.folder}: has no concept {text!r}; it has: {', '.join(map(repr, self.parts))}")
        return self.parts[text]


def read_slice(folder: Path) -> Slice:
    """Read a slice; UserError where it is not there, or its rows are not those that its index was made from."""
    folder = Path(folder)
    index = read_json(folder / INDEX)
    check_against("slice", index, folder / INDEX)
    store = Groups(folder / ROWS)
    if sha256_of_file(folder / ROWS / ROOT) != index["sha256"]:
        raise UserError(f"{folder / ROWS}: not the rows that {INDEX} was made from; make the slice again")
    found = store.group(SPACE)
    values = found.get(index["site"]) if index["site"] else None
    parts = {}
    for code, text in enumerate(store.attributes["concepts"]):
        mine = found["concept"] == code
        columns = (found[name][mine] for name in ("row", "episode", "step", "text"))
        parts[text] = Part(*columns, None if values is None else values[mine])
    return Slice(folder, index, parts)
