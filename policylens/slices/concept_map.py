"""Concept maps: in which frames of which episodes of a dataset each concept is shown.

The format is that of the published vla-mech-interp suites: `concepts` {text: [{episode_index, frame_start, frame_end
(inclusive), start_index, end_index (of the whole dataset, inclusive), length, ...}]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.files import read_json
from policylens.stores.schemas import check_value

_INDEX = {"type": "integer", "minimum": 0}
_FIELDS = ("episode_index", "frame_start", "frame_end", "start_index", "end_index")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["concepts"],
    "properties": {
        "concepts": {
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["episode_index", "frame_start", "frame_end"],
                    "properties": {name: _INDEX for name in _FIELDS},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `last` (inclusive) of an episode. start, end: the same in the whole dataset, where known."""

    episode: int
    first: int
    last: int
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class ConceptMap:
    """Concept text -> its segments. path: the file. facts: of the file, e.g. `repo_id`."""

    path: Path
    concepts: Mapping[str, list[Segment]]
    facts: Mapping[str, Any]


def read_concept_map(path: Path) -> ConceptMap:
    """Read a concept map; UserError in one line for another format, an empty concept, or a segment that ends early."""
    record = read_json(path)
    check_value(_SCHEMA, record, path)
    if not record["concepts"]:
        raise UserError(f"{path}: has no concepts; make the concept map again from its manifest")
    concepts = {text: [_segment(path, text, own) for own in found] for text, found in record["concepts"].items()}
    for text, segments in concepts.items():
        if not segments:
            raise UserError(f"{path}: the concept {text!r} has no segments; leave it out, or make the map again")
    facts = {key: record[key] for key in ("repo_id", "lerobot_root", "manifest") if isinstance(record.get(key), str)}
    return ConceptMap(Path(path), concepts, facts)


def _segment(path: Path, text: str, own: Mapping[str, Any]) -> Segment:
    segment = Segment(own["episode_index"], own["frame_start"], own["frame_end"], *(own.get(k) for k in _FIELDS[3:]))
    frames = segment.last - segment.first + 1
    if frames < 1:
        raise UserError(f"{path}: {text!r}: a segment of episode {segment.episode} ends before it starts")
    if segment.start is not None and segment.end is not None and segment.end - segment.start + 1 != frames:
        raise UserError(
            f"{path}: {text!r}: a segment of episode {segment.episode} has {frames} frames by frame_start and "
            f"frame_end and {segment.end - segment.start + 1} by start_index and end_index; make the map again"
        )
    return segment


def check_range(concepts: ConceptMap, episodes: np.ndarray, lengths: np.ndarray, place: object) -> None:
    """UserError unless all segments lie in these episodes, and dataset indices agree with the episodes' lengths.

    episodes: (e,) their numbers. lengths: (e,) frames of each. place: what has them, for the message.
    """
    length_of = dict(zip(episodes.tolist(), lengths.tolist(), strict=True))
    starts = _starts(length_of)
    for text, segments in concepts.concepts.items():
        for segment in segments:
            where = f"{concepts.path}: {text!r}: "
            if segment.episode not in length_of:
                raise UserError(
                    f"{where}episode {segment.episode} is not in {place}, which has {len(length_of)} episodes "
                    f"({min(length_of)} to {max(length_of)}); give the concept map of its dataset"
                )
            if segment.last >= length_of[segment.episode]:
                raise UserError(
                    f"{where}a segment ends at frame {segment.last} of episode {segment.episode}, which has "
                    f"{length_of[segment.episode]} frames in {place}; give the concept map of its dataset"
                )
            begins = starts.get(segment.episode)
            if segment.start is not None and begins is not None and segment.start - segment.first != begins:
                raise UserError(
                    f"{where}is of another dataset: episode {segment.episode} begins at frame "
                    f"{segment.start - segment.first} there and at {begins} in {place}; give the concept map of its "
                    "dataset"
                )


def _starts(length_of: Mapping[int, int]) -> dict[int, int]:
    """Episode -> the dataset's frames before it, as far as episodes are numbered from 0 without a gap."""
    found, total = {}, 0
    for episode in range(len(length_of)):
        if episode not in length_of:
            break
        found[episode] = total
        total += length_of[episode]
    return found
