"""Write which rows of a capture show which concept; or another tool's slices and chunks in the same form."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from policylens.console import main
from policylens.project.slices import denoising_steps
from policylens.slices.concept_map import ConceptMap, check_range, read_concept_map
from policylens.slices.foreign import from_chunks, from_files
from policylens.slices.selection import check_instructions, rows_of_concepts, shared_tokens, texts_of_rows
from policylens.slices.store import Part, write_slice
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.tables import INDEX, Table, open_table, row_space_of


def program() -> None:
    arguments = parse()
    concepts = read_concept_map(arguments.concept_map) if arguments.concept_map else None
    facts = {**arguments.origin, "capture": None, "capture_sha256": None, "row_space": None, "site": None}
    facts |= {
        "kinds": arguments.block.get("kinds", []),
        "denoise": denoising_steps(arguments.block),
        "tokens": None,
        "concept_map": None,
    }
    if concepts is not None:
        facts["concept_map"] = {"sha256": sha256_of_file(concepts.path), "facts": dict(concepts.facts)}
    parts, texts, own = (select if arguments.capture else bring)(arguments, concepts)
    write_slice(arguments.out, parts, texts, {**facts, **own}, provenance_of(arguments, concepts))


def select(arguments: argparse.Namespace, concepts: ConceptMap) -> tuple[dict[str, Part], list[str], dict[str, Any]]:
    """Rows of a capture."""
    capture = open_table(arguments.capture, row_space_of(arguments.capture))
    source = open_table(arguments.source) if arguments.source else None
    check_range(concepts, *frames_of(capture if source is None else source), arguments.source or arguments.capture)
    found = rows_of_concepts(capture, concepts, arguments.block.get("kinds", []), denoising_steps(arguments.block))
    shared = None
    if arguments.block.get("tokens") == "shared":
        found, shared = shared_tokens(capture, found)
    every = np.concatenate(list(found.values()))
    codes, texts = texts_of_rows(capture, source, every)
    of_concepts = dict(zip(found, np.split(codes, np.cumsum([len(rows) for rows in found.values()])[:-1]), strict=True))
    check_instructions(concepts, of_concepts, texts)
    episodes, steps = capture.coordinate("episode"), capture.coordinate("step")
    parts = {text: Part(rows, episodes[rows], steps[rows], of_concepts[text]) for text, rows in found.items()}
    own = {"capture": arguments.capture.name, "capture_sha256": sha256_of_file(arguments.capture / INDEX)}
    return parts, texts, own | {"row_space": capture.row_space, "tokens": shared, "rows_are": "rows of the capture"}


def frames_of(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Episodes of a source or capture, and the frames of each."""
    episodes, of_row = np.unique(table.coordinate("episode"), return_inverse=True)
    lengths = np.zeros(len(episodes), np.int64)
    np.maximum.at(lengths, of_row, table.coordinate("step").astype(np.int64) + 1)
    return episodes, lengths


def bring(
    arguments: argparse.Namespace, concepts: ConceptMap | None
) -> tuple[dict[str, Part], list[str], dict[str, Any]]:
    """Another tool's files, with their activations."""
    block = arguments.block
    if "chunks" in block:
        found = from_chunks([Path(path) for path in block["chunks"]], block["frames"], concepts)
        what = "one row per frame of the dataset"
    else:
        found, what = from_files(block["import"]), "rows of files; which episodes they are of is not known"
    parts, start = {}, 0
    for text, (values, episodes, steps) in found.items():
        numbers = np.arange(start, start + len(values))
        parts[text] = Part(numbers, episodes, steps, np.full(len(values), -1), values)
        start += len(values)
    return parts, [], {"site": block["site"], "rows_are": what}


def provenance_of(arguments: argparse.Namespace, concepts: ConceptMap | None) -> dict[str, Any]:
    block = arguments.block
    files = [*block.get("chunks", []), *(path for paths in block.get("import", {}).values() for path in paths)]
    inputs = {f"file/{place}": sha256_of_file(Path(path)) for place, path in enumerate(files)}
    if concepts is not None:
        inputs["concept_map"] = sha256_of_file(concepts.path)
    for name in ("capture", "source"):
        if getattr(arguments, name):
            inputs[name] = sha256_of_file(getattr(arguments, name) / INDEX)
    return provenance(settings=block, inputs=inputs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", type=Path, help="folder of the capture whose rows are chosen")
    parser.add_argument("--source", type=Path, help="folder of its source: lengths of episodes, instructions")
    parser.add_argument("--concept-map", type=Path, help="JSON: frames of each concept")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: the block of config.yaml")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, slice")
    parser.add_argument("--out", required=True, type=Path, help="folder to write: rows.zarr, index.json")
    return parser.parse_args()


if __name__ == "__main__":
    main(program)
