"""Are a manifest and its concept map at one with themselves, with each other, and with a source?

Faults make them unusable or wrong; notes say what a reader should know before believing in them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policylens.concepts.contrast import tasks_of
from policylens.stores.files import read_json
from policylens.stores.schemas import check_against

CLOSE = 1e-6
"""Values of a state agree within this: they are float32 in datasets."""


@dataclass
class Findings:
    """What a check has found, in sentences."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest of the form that the schema demands; UserError otherwise."""
    record = read_json(path)
    check_against("contrast_manifest", record, path)
    return record


def read_map(path: Path) -> dict[str, Any]:
    """A concept map of the form that the schema demands; UserError otherwise."""
    record = read_json(path)
    check_against("concept_map", record, path)
    return record


def check_manifest(manifest: Mapping[str, Any]) -> Findings:
    """What can be told from a manifest alone."""
    found = Findings()
    means, tasks = manifest["axis"]["mean_delta_per_task"], tasks_of(manifest)
    for task in tasks:
        if task not in means:
            found.faults.append(f"segments of {task!r}, of which mean_delta_per_task says nothing")
    for task in means:
        if task not in tasks:
            found.faults.append(f"no segment is of {task!r}, which mean_delta_per_task names")
    if found.faults:
        return found
    for place, segment in enumerate(manifest["segments"]):
        found.faults += [f"segment {place}: {fault}" for fault in _segment_faults(segment)]
    _check_axis(manifest["axis"], tasks, found)
    found.notes += _direction_notes(manifest, tasks)
    return found


def _segment_faults(segment: Mapping[str, Any]) -> Iterator[str]:
    values, steps = segment["axis_values"], segment["end_step"] - segment["start_step"] + 1
    if len(values) != steps:
        yield f"steps {segment['start_step']} to {segment['end_step']} are {steps}, axis_values has {len(values)}"
    if not math.isclose(segment["axis_delta"], values[-1] - values[0], abs_tol=1e-12):
        moved = values[-1] - values[0]
        yield f"axis_delta is {segment['axis_delta']:.6g}, axis_values end {moved:.6g} from their beginning"
    numbers = [int(number) for number in re.findall(r"episode_(\d+)", f"{segment['demo']} {segment['file']}")]
    if any(number != segment["episode_index"] for number in numbers):
        yield f"is of episode {segment['episode_index']}, but demo or file names episode {numbers}"


def _check_axis(axis: Mapping[str, Any], tasks: list[str], found: Findings) -> None:
    """The effect has the sign of the first task's mean less the second's; an axis is for means of opposite signs."""
    first, second = (axis["mean_delta_per_task"][task] for task in tasks)
    if first * second >= 0:
        found.faults.append(f"both tasks move to the same side along the axis ({first:.4g} and {second:.4g})")
    if axis["effect_size"] * (first - second) < 0:
        found.faults.append(f"effect_size {axis['effect_size']:.4g} has not the sign of {first:.4g} less {second:.4g}")


def _direction_notes(manifest: Mapping[str, Any], tasks: list[str]) -> Iterator[str]:
    for task in tasks:
        mean = manifest["axis"]["mean_delta_per_task"][task]
        deltas = np.array([segment["axis_delta"] for segment in manifest["segments"] if segment["task"] == task])
        other = int(moves_other_way(deltas, mean).sum())
        if other:
            count = f"{other} of {len(deltas)} windows ({100 * other / len(deltas):.0f}%)"
            yield f"{count} of {task!r} move the other way than their task's mean, {mean:.4g}"


def moves_other_way(deltas: np.ndarray, mean: float) -> np.ndarray:
    """Windows, bool (windows,), whose displacement has not the sign of their task's mean."""
    return deltas * np.sign(mean) < 0


def check_map(manifest: Mapping[str, Any], concept_map: Mapping[str, Any]) -> Findings:
    """A map against its manifest, and its places against each other."""
    found = Findings()
    segments, starts = manifest["segments"], {}
    seen: list[int] = []
    for concept, entries in concept_map["concepts"].items():
        if concept_map["concept_count"].get(concept) != len(entries):
            found.faults.append(f"concept_count of {concept!r} is not the {len(entries)} windows that it has")
        for entry in entries:
            where = f"window {entry['segment_id']} of {concept!r}"
            if entry["segment_id"] >= len(segments):
                found.faults.append(f"{where}: the manifest has {len(segments)} segments; it is of another manifest")
                continue
            seen.append(entry["segment_id"])
            faults = [*_window_faults(entry), *_other_segment(concept, entry, segments[entry["segment_id"]])]
            if entry["end_index"] >= concept_map["sample_count"]:
                faults.append(f"ends at frame {entry['end_index']} of {concept_map['sample_count']}: out of range")
            start = entry["start_index"] - entry["observed_frame_start"]
            if starts.setdefault(entry["episode_index"], start) != start:
                faults.append(
                    f"puts the beginning of episode {entry['episode_index']} at {start}, another window elsewhere"
                )
            found.faults += [f"{where}: {fault}" for fault in faults]
    if len(set(seen)) != len(seen) or len(set(seen)) != len(segments):
        found.faults.append(
            f"{len(set(seen))} of the manifest's {len(segments)} segments have a window, {len(seen)} windows in all"
        )
    found.faults += _episode_faults(concept_map, starts)
    found.notes += _map_notes(concept_map, starts)
    return found


def _window_faults(entry: Mapping[str, int]) -> Iterator[str]:
    sizes = {entry["length"], *(entry[f"{end}_end"] - entry[f"{end}_start"] + 1 for end in ("frame", "observed_frame"))}
    sizes.add(entry["end_index"] - entry["start_index"] + 1)
    if len(sizes) > 1:
        yield f"its frames, indices and length do not agree (lengths {', '.join(map(str, sorted(sizes)))})"


def _other_segment(concept: str, entry: Mapping[str, int], segment: Mapping[str, Any]) -> Iterator[str]:
    own = (concept, entry["episode_index"], entry["frame_start"], entry["frame_end"])
    its = (segment["task"], segment["episode_index"], segment["start_step"], segment["end_step"])
    if own != its:
        has = f"{its[0]!r}, episode {its[1]}, {its[2]} to {its[3]}"
        yield f"is episode {own[1]}, frames {own[2]} to {own[3]}; the manifest has {has}"


def _episode_faults(concept_map: Mapping[str, Any], starts: Mapping[int, int]) -> Iterator[str]:
    """Episodes stand in the order of their numbers, and none begins before the windows of the one before have ended."""
    ends = _last_frames(concept_map)
    numbers = sorted(starts)
    for first, second in zip(numbers, numbers[1:], strict=False):
        end = starts[first] + ends[first]
        if starts[second] <= end:
            yield f"episode {second} begins at {starts[second]}, in episode {first}, whose window ends at {end}"


def _last_frames(concept_map: Mapping[str, Any]) -> dict[int, int]:
    ends: dict[int, int] = {}
    for entries in concept_map["concepts"].values():
        for entry in entries:
            number = entry["episode_index"]
            ends[number] = max(ends.get(number, 0), entry["frame_end"])
    return ends


def _map_notes(concept_map: Mapping[str, Any], starts: Mapping[int, int]) -> Iterator[str]:
    frames = sum(entry["length"] for entries in concept_map["concepts"].values() for entry in entries)
    yield f"windows hold {frames} of the dataset's {concept_map['sample_count']} frames"
    ends = _last_frames(concept_map)
    known = [number for number in starts if number + 1 in starts]
    to_end = sum(starts[number] + ends[number] + 1 == starts[number + 1] for number in known)
    yield (
        f"{to_end} of {len(known)} windows whose episode's end is known reach it: an episode's last step is as "
        "far from its beginning as the threshold asks, whatever happened before"
    )


def check_source(manifest: Mapping[str, Any], demos: Mapping[str, Mapping[int, np.ndarray]]) -> Findings:
    """A manifest against the demonstrations that it should be of.

    demos: task -> episode -> states (steps, dimensions).
    """
    found = Findings()
    axis = manifest["axis"]["index"]
    for place, segment in enumerate(manifest["segments"]):
        states = demos.get(segment["task"], {}).get(segment["episode_index"])
        if states is None:
            found.faults.append(
                f"segment {place}: the source has no episode {segment['episode_index']} of {segment['task']!r}"
            )
        elif axis >= states.shape[1]:
            found.faults.append(f"the axis is dimension {axis}, the source's state has {states.shape[1]}")
            break
        elif segment["end_step"] >= len(states):
            found.faults.append(
                f"segment {place}: ends at step {segment['end_step']}, and episode {segment['episode_index']} has "
                f"{len(states)} steps"
            )
        elif not np.allclose(
            states[segment["start_step"] : segment["end_step"] + 1, axis], segment["axis_values"], rtol=0, atol=CLOSE
        ):
            found.faults.append(
                f"segment {place}: axis_values are not those of episode {segment['episode_index']} of the source (name "
                "the array they are of with --array, if it is not the state)"
            )
    return found
