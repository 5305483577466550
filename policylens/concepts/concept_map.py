"""Concept maps: where in a dataset a manifest's windows are, by episode, frame and place among all frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def build_map(
    manifest: Mapping[str, Any], name: str, starts: Mapping[int, int], dataset: Mapping[str, Any], frames: int
) -> dict[str, Any]:
    """The concept map of a manifest.

    name: the manifest's path. starts: episode -> its first frame's place in the dataset. dataset: `root`, `repo_id`.
    frames: of the whole dataset. Windows stand in the order of the dataset; `segment_id` is a window's place in the
    manifest; ends are inclusive.
    """
    concepts: dict[str, list[dict[str, int]]] = {}
    for place, segment in enumerate(manifest["segments"]):
        start, first, last = starts[segment["episode_index"]], segment["start_step"], segment["end_step"]
        concepts.setdefault(segment["task"], []).append(
            {
                "segment_id": place,
                "episode_index": segment["episode_index"],
                "frame_start": first,
                "frame_end": last,
                "observed_frame_start": first,
                "observed_frame_end": last,
                "start_index": start + first,
                "end_index": start + last,
                "length": last - first + 1,
            }
        )
    for entries in concepts.values():
        entries.sort(key=lambda entry: entry["start_index"])
    return {
        "manifest": name,
        "lerobot_root": dataset["root"],
        "repo_id": dataset["repo_id"],
        "concept_count": {task: len(entries) for task, entries in concepts.items()},
        "sample_count": frames,
        "concepts": concepts,
    }
