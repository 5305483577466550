"""A LeRobot dataset as a source: which episodes, in which part, under which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from policylens.capture.sources import episodes_of_part
from policylens.datasets.frames import read_episodes
from policylens.datasets.meta import Episode, Meta
from policylens.datasets.naming import array_names
from policylens.errors import UserError
from policylens.policies.rollout import Rollout
from policylens.stores.faults import did_you_mean
from policylens.stores.texts import encode_text

OPTIONAL = ("group",)
"""Columns that are no features of LeRobot's, taken where they are there: demos of one start belong together."""


def chosen_episodes(meta: Meta, tasks: Sequence[str] | None, episodes: Sequence[int] | None) -> list[Episode]:
    """Episodes with one of the task texts, and of the given numbers, in ascending order; all for None.

    UserError for a text or a number that the dataset does not have, and where none is left.
    """
    where = meta.info.root
    known = list(dict.fromkeys(text for episode in meta.episodes for text in episode.tasks))
    for text in tasks or ():
        if text not in known:
            hint = did_you_mean(text, known) or f"it has: {'; '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
            raise UserError(f"{where}: no episode has the task {text!r}; {hint}")
    numbers = {episode.number for episode in meta.episodes}
    missing = sorted(set(episodes or ()) - numbers)
    if missing:
        raise UserError(
            f"{where}: there is no episode {', '.join(map(str, missing[:5]))}; it has {len(numbers)}, numbered "
            f"{min(numbers)} to {max(numbers)}"
        )
    found = [
        episode
        for episode in meta.episodes
        if (tasks is None or set(tasks) & set(episode.tasks)) and (episodes is None or episode.number in episodes)
    ]
    if not found:
        raise UserError(f"{where}: no episode is both of the chosen tasks and among the chosen episodes")
    return found


def rollouts(meta: Meta, block: Mapping[str, Any], part: int, parts: int) -> Iterator[Rollout]:
    """The episodes of one part, one at a time.

    block: `tasks`, `episodes`, `arrays` of config.yaml. Steps have `task_index` and `instruction` (uint8 (256,)) beside
    what the config names; episodes have `start`, their first frame's place in the dataset, and `task_index`.
    """
    chosen = chosen_episodes(meta, block.get("tasks"), block.get("episodes"))
    if parts > len(chosen):
        raise UserError(f"{meta.info.root}: {parts} parts cannot hold {len(chosen)} whole episodes; ask for fewer")
    names = array_names(meta.info.features, block.get("arrays"))
    texts = {number: encode_text(text) for number, text in meta.tasks.items()}
    own = episodes_of_part(part, parts, len(chosen))
    for episode, arrays in read_episodes(meta.info.root, chosen[own.start : own.stop], names, OPTIONAL):
        yield _rollout(meta, episode, arrays, texts)


def _rollout(meta: Meta, episode: Episode, arrays: dict[str, np.ndarray], texts: Mapping[int, np.ndarray]) -> Rollout:
    where = f"{meta.info.root / episode.file}: episode {episode.number}"
    unknown = sorted(set(arrays["task_index"].tolist()) - texts.keys())
    if unknown:
        raise UserError(f"{where} has frames of task {unknown[0]}, of which meta/tasks has no text; correct meta/tasks")
    steps = {
        "episode": np.full(episode.length, episode.number, np.int64),
        **arrays,
        "instruction": np.stack([texts[number] for number in arrays["task_index"].tolist()]),
    }
    if "group" in steps:
        if steps["group"].dtype.kind not in "iu" or steps["group"].ndim != 1:
            raise UserError(f"{where}: 'group' must be one integer per frame; leave the column out")
        steps["group"] = steps["group"].astype(np.uint64)
    facts = {"episode": episode.number, "length": episode.length, "start": episode.start}
    facts["task_index"] = int(arrays["task_index"][0])
    return Rollout(
        steps, {name: np.array([value]) for name, value in facts.items()}, str(meta.info.root / episode.file)
    )


def description(meta: Meta, block: Mapping[str, Any]) -> dict[str, Any]:
    """What a source's root says of its dataset, under `dataset`. Without the folder's place on this machine."""
    info = meta.info
    return {
        "repo_id": block.get("repo_id"),
        "root": block.get("root", block.get("repo_id")),
        "codebase_version": info.version,
        "fps": info.fps,
        "total_episodes": info.total_episodes,
        "total_frames": info.total_frames,
        "tasks": {str(number): text for number, text in sorted(meta.tasks.items())},
        "files": _files(meta, block),
        "arrays": array_names(info.features, block.get("arrays")),
    }


def _files(meta: Meta, block: Mapping[str, Any]) -> dict[str, str]:
    """Episode -> its parquet file, as the manifests of contrasts name it."""
    chosen = chosen_episodes(meta, block.get("tasks"), block.get("episodes"))
    return {str(episode.number): episode.file for episode in chosen}
