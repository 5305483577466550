"""From a source to a contrast: manifest, concept map and contrast.json; built here, or published and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.concepts.concept_map import build_map
from policylens.concepts.contrast import Demo, Moves, build_manifest, choose_axis, tasks_of
from policylens.concepts.contrast_checks import check_manifest, check_map, check_source, read_manifest, read_map
from policylens.concepts.contrast_report import (
    Demos,
    dimensions_record,
    effect_estimate,
    moves_of,
    null_of_effect,
    windows_record,
)
from policylens.concepts.demos import Episodes, demos_of, halves, read_episodes, states_of
from policylens.errors import UserError

MANIFEST, MAP, RECORD = "manifest.json", "concept_map.json", "contrast.json"


@dataclass(frozen=True)
class Study:
    """A contrast. demos: that its windows are of. moves: of those."""

    manifest: dict[str, Any]
    concept_map: dict[str, Any]
    record: dict[str, Any]
    demos: Demos
    moves: Moves


def study(source: Path, block: Mapping[str, Any], origin: Mapping[str, str], out: Path) -> Study:
    """Build a contrast, or check and take over a published one.

    block: of config.yaml with its defaults. origin: `policy`, `source`, `contrast`. out: the folder of the results.
    """
    episodes = read_episodes(source)
    made = _taken_over if "manifest" in block else _built
    manifest, demos, chosen_on = made(episodes, block, origin)
    moves = moves_of(demos)
    concept_map = build_map(manifest, (out / MANIFEST).as_posix(), episodes.starts, episodes.dataset, episodes.frames)
    notes = check_manifest(manifest).notes + check_map(manifest, concept_map).notes
    if "concept_map" in block:
        _check_given_map(Path(block["concept_map"]), concept_map)
    record = {
        "format": 1,
        **origin,
        "dataset": {**episodes.dataset, "frames": episodes.frames},
        "settings": dict(block),
        "tasks": list(demos),
        "axis": _axis_record(manifest, block, demos, chosen_on),
        "windows": windows_record(manifest, {demo.episode: len(demo.states) for own in demos.values() for demo in own}),
        "notes": notes,
    }
    return Study(manifest, concept_map, record, demos, moves)


def _built(
    episodes: Episodes, block: Mapping[str, Any], origin: Mapping[str, str]
) -> tuple[dict[str, Any], Demos, Demos]:
    """Manifest, the demonstrations of its windows, and those on which the axis was chosen."""
    tasks = (block["positive"], block["negative"])
    chosen_on = demos = demos_of(episodes, tasks, block["array"])
    _check_dimensions(demos)
    if block["held_out"]:
        chosen_on, demos = halves(demos, f"contrast/{origin['contrast']}/{block['seed']}")
    axis = choose_axis(moves_of(chosen_on), block["rule"], block["minimum"], block.get("dimensions"))
    return build_manifest(demos, axis, moves_of(demos), block["threshold"], block["pad"]), demos, chosen_on


def _check_dimensions(demos: Mapping[str, list[Demo]]) -> None:
    for own in demos.values():
        for demo in own:
            if len(demo.states) < 2:
                raise UserError(f"{demo.file}: episode {demo.episode} has one step; leave it out of the source")


def _taken_over(
    episodes: Episodes, block: Mapping[str, Any], origin: Mapping[str, str]
) -> tuple[dict[str, Any], Demos, Demos]:
    path = Path(block["manifest"])
    manifest = read_manifest(path)
    tasks = tasks_of(manifest)
    missing = [task for task in tasks if task not in episodes.texts]
    if missing:
        raise UserError(
            f"{path}: is of another dataset: no episode of the source {origin['source']!r} has the task "
            f"{missing[0]!r}; name the source that the manifest was made from"
        )
    demos = demos_of(episodes, tasks, block["array"])
    found = check_source(manifest, {task: states_of(own) for task, own in demos.items()}).faults
    faults = check_manifest(manifest).faults + found
    if faults:
        hint = "; is it of another dataset?" if found else ""
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise UserError(f"{path}: {faults[0]}{more}; `policylens contrast check` lists all{hint}")
    named = {segment["episode_index"] for segment in manifest["segments"]}
    used = {task: [demo for demo in own if demo.episode in named] for task, own in demos.items()}
    return manifest, used, used


def _check_given_map(path: Path, built: Mapping[str, Any]) -> None:
    """A published map has to say of the windows what the source says."""
    given = read_map(path)
    if given["sample_count"] != built["sample_count"]:
        raise UserError(
            f"{path}: is of a dataset of {given['sample_count']} frames, the source's has "
            f"{built['sample_count']}; name the source that it was made from"
        )
    if given["concepts"] != built["concepts"]:
        places = {entry["segment_id"]: entry for entries in given["concepts"].values() for entry in entries}
        wrong = next(
            entry["segment_id"]
            for entries in built["concepts"].values()
            for entry in entries
            if places.get(entry["segment_id"]) != entry
        )
        raise UserError(
            f"{path}: does not place segment {wrong} where the source has it; leave concept_map out to have it made"
        )


def _axis_record(
    manifest: Mapping[str, Any], block: Mapping[str, Any], demos: Demos, chosen_on: Demos
) -> dict[str, Any]:
    index, published = manifest["axis"]["index"], "manifest" in block
    held_out = bool(block.get("held_out"))
    minimum, candidates = block.get("minimum", 0.0), block.get("dimensions")
    selection = {"rule": block.get("rule"), "minimum": minimum, "candidates": candidates}
    again = None if held_out or published else selection
    chosen = moves_of(chosen_on)
    return {
        "index": index,
        "rule": block.get("rule"),
        "held_out": held_out,
        "chosen_on": {task: len(own) for task, own in chosen_on.items()},
        "measured_on": {task: len(own) for task, own in demos.items()},
        "effect_where_chosen": float(chosen.effect[index]),
        "effect": effect_estimate(demos, index, block["seed"]).record(),
        "null": null_of_effect(demos, index, again, block["seed"]),
        "dimensions": dimensions_record(chosen, minimum, candidates),
    }
