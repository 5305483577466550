"""Demonstrations of two concepts, from a source whose rows know their instruction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.concepts.contrast import Demo
from policylens.errors import UserError
from policylens.stores.faults import did_you_mean
from policylens.stores.splits import stable_hash
from policylens.stores.tables import Table, open_table
from policylens.stores.texts import decode_texts

INSTRUCTION = "instruction"
FEWEST = 2


@dataclass(frozen=True)
class Episodes:
    """The episodes of a source, in its order.

    first, last: rows (n,). number: (n,). texts: of their instructions. dataset: where they come from: `root`,
    `repo_id`. frames: of the whole dataset. start: (n,) first frame's place there. file: of each.
    """

    source: Table
    number: np.ndarray
    first: np.ndarray
    last: np.ndarray
    texts: list[str]
    dataset: Mapping[str, Any]
    frames: int
    start: np.ndarray
    file: list[str]

    @property
    def starts(self) -> dict[int, int]:
        """Episode -> its first frame's place in the dataset."""
        return dict(zip(self.number.tolist(), self.start.tolist(), strict=True))


def read_episodes(folder: Path) -> Episodes:
    """The episodes of a source; UserError unless every one has one instruction."""
    source = open_table(folder)
    if INSTRUCTION not in source.names:
        raise UserError(
            f"{folder}: its rows have no {INSTRUCTION!r}, by which concepts are told apart; take one of a dataset"
        )
    rows = source.coordinate("episode")
    first = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    last = np.append(first[1:], len(rows)) - 1
    column = source.array(INSTRUCTION)
    texts, ends = decode_texts(column.read(first)), decode_texts(column.read(last))
    for number, text, end in zip(rows[first], texts, ends, strict=True):
        if text != end:
            raise UserError(
                f"{folder}: episode {number} begins as {text!r} and ends as {end!r}; leave it out of the source"
            )
    known = source.attributes.get("dataset")
    numbers = rows[first]
    if known is None:  # not of a dataset: the source's own rows are the frames
        dataset = {"root": Path(folder).as_posix(), "repo_id": Path(folder).name}
        return Episodes(
            source, numbers, first, last, texts, dataset, source.n_rows, first, [dataset["root"]] * len(first)
        )
    facts = open_table(folder, "episode")
    start = dict(zip(facts.coordinate("episode").tolist(), facts.coordinate("start").tolist(), strict=True))
    return Episodes(
        source,
        numbers,
        first,
        last,
        texts,
        {"root": known["root"], "repo_id": known["repo_id"] or Path(known["root"]).name},
        known["total_frames"],
        np.array([start[number] for number in numbers.tolist()]),
        [known["files"][str(number)] for number in numbers.tolist()],
    )


def demos_of(episodes: Episodes, tasks: Sequence[str], array: str) -> dict[str, list[Demo]]:
    """Task text -> its demonstrations in ascending order of their numbers.

    array: of the state, (rows, dimensions), or (rows,) of one. UserError for a text that no or one episode has, or
    another shape.
    """
    column = episodes.source.array(array)
    if len(column.shape) not in (1, 2) or column.dtype.kind != "f":
        raise UserError(
            f"{episodes.source.folder}: {array!r} must be floats (rows, dimensions) for an axis to be chosen, got "
            f"{column.dtype} {column.shape}"
        )
    groups = episodes.source.array("group").read(episodes.first) if "group" in episodes.source.names else None
    found: dict[str, list[Demo]] = {}
    for task in tasks:
        places = [place for place, text in enumerate(episodes.texts) if text == task]
        _check_count(episodes, task, len(places))
        found[task] = sorted(
            (_demo(episodes, column, place, None if groups is None else int(groups[place])) for place in places),
            key=lambda demo: demo.episode,
        )
    return found


def read_demos(folder: Path, tasks: Sequence[str], array: str) -> dict[str, dict[int, np.ndarray]]:
    """Task text -> episode -> states of a source's demonstrations; nothing of texts that no episode has."""
    episodes = read_episodes(folder)
    known = [task for task in tasks if task in episodes.texts]
    return {task: states_of(demos) for task, demos in demos_of(episodes, known, array).items()}


def states_of(demos: Sequence[Demo]) -> dict[int, np.ndarray]:
    """Episode -> states (steps, dimensions)."""
    return {demo.episode: demo.states for demo in demos}


def _check_count(episodes: Episodes, task: str, count: int) -> None:
    known = sorted(set(episodes.texts))
    if not count:
        hint = did_you_mean(task, known) or f"it has: {'; '.join(known[:8])}"
        raise UserError(f"{episodes.source.folder}: no episode has the instruction {task!r}; {hint}")
    if count < FEWEST:
        raise UserError(f"{episodes.source.folder}: {count} episode has the instruction {task!r}; {FEWEST} are needed")


def _demo(episodes: Episodes, column: Any, place: int, group: int | None) -> Demo:
    number = int(episodes.number[place])
    states = column.read(slice(int(episodes.first[place]), int(episodes.last[place]) + 1)).astype(np.float64)
    states = states.reshape(len(states), -1)
    return Demo(number, episodes.file[place], f"episode_{number:06d}", states, int(episodes.start[place]), group)


def halves(demos: Mapping[str, Sequence[Demo]], salt: str) -> tuple[dict[str, list[Demo]], dict[str, list[Demo]]]:
    """Demonstrations that the axis is chosen on, and the others, the same for the same numbers and salt.

    Where they have groups, a group goes to one half as a whole; else each task is halved. UserError where a half is
    left with fewer than two demonstrations of a task.
    """
    grouped = all(demo.group is not None for own in demos.values() for demo in own)
    first: set[int] = set()
    if grouped:
        first = _half({demo.group for own in demos.values() for demo in own}, salt)
    else:
        for task, own in demos.items():
            first |= _half({demo.episode for demo in own}, f"{salt}/{hashlib.sha256(task.encode()).hexdigest()}")
    parts: tuple[dict[str, list[Demo]], dict[str, list[Demo]]] = ({}, {})
    for task, own in demos.items():
        for demo in own:
            unit = demo.group if grouped else demo.episode
            parts[unit not in first].setdefault(task, []).append(demo)
    for part in parts:
        for task in demos:
            if len(part.get(task, ())) < FEWEST:
                raise UserError(
                    f"{len(demos[task])} demonstrations of {task!r} are too few to choose the axis on one half and "
                    "measure on the other; set held_out: false, or record more"
                )
    return {task: parts[0][task] for task in demos}, {task: parts[1][task] for task in demos}


def _half(units: set[int | None], salt: str) -> set[int]:
    numbers = np.array(sorted(units), dtype=np.uint64)
    order = np.argsort(stable_hash(numbers, salt), kind="stable")
    return set(numbers[order[: (len(numbers) + 1) // 2]].tolist())
