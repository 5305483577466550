"""Tasks and episodes of a LeRobot dataset: jsonl files in v2.1, parquet files in v3.0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.datasets.info import Info
from policylens.errors import UserError

EPISODE_COLUMNS = ("episode_index", "length", "tasks", "data/chunk_index", "data/file_index")
ANEW = "copy or make the dataset anew"


@dataclass(frozen=True)
class Episode:
    """One episode.

    length: in frames. tasks: texts of its tasks. file: with its frames, relative to the dataset's folder.
    start: its first frame's place among all frames of the dataset.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    file: str
    start: int


@dataclass(frozen=True)
class Meta:
    """tasks: number -> text. episodes: in ascending order of their numbers."""

    info: Info
    tasks: Mapping[int, str]
    episodes: tuple[Episode, ...]


def read_meta(info: Info) -> Meta:
    """Read tasks and episodes.

    Raises UserError for missing or broken files, a dataset without task texts, and episodes that are not as many, or
    not as long, as info.json says.
    """
    read_tasks, read_episodes = {"v2.1": (_tasks_v21, _rows_v21), "v3.0": (_tasks_v30, _rows_v30)}[info.version]
    tasks = read_tasks(info)
    if not tasks or not all(text.strip() for text in tasks.values()):
        raise UserError(
            f"{info.root}: a dataset without task texts (meta/tasks); write it anew with a task for every frame"
        )
    episodes: list[Episode] = []
    start = 0
    for row in sorted(read_episodes(info), key=lambda row: row["episode_index"]):
        episodes.append(Episode(row["episode_index"], row["length"], tuple(row["tasks"]), _file(info, row), start))
        start += row["length"]
    if (len(episodes), start) != (info.total_episodes, info.total_frames):
        raise UserError(
            f"{info.root}: meta/episodes has {len(episodes)} episodes of {start} frames in all, info.json says "
            f"{info.total_episodes} of {info.total_frames}; {ANEW}"
        )
    return Meta(info, tasks, tuple(episodes))


def _file(info: Info, row: Mapping[str, Any]) -> str:
    """Path of the parquet file with an episode's frames."""
    places = {"episode_index": row["episode_index"], "episode_chunk": row["episode_index"] // info.chunk_size}
    if info.version == "v3.0":
        places = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
    try:
        path = info.data_path.format(**places)
    except (KeyError, ValueError, IndexError):
        raise UserError(
            f"{info.root}: data_path {info.data_path!r} in info.json is no {info.version} path; {ANEW}"
        ) from None
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise UserError(f"{info.root}: data_path {info.data_path!r} in info.json leaves the dataset's folder; {ANEW}")
    return path


def _tasks_v21(info: Info) -> dict[int, str]:
    path = info.root / "meta" / "tasks.jsonl"
    if not path.is_file():
        return {}
    return {int(row["task_index"]): str(row["task"]) for row in _lines(path, ("task_index", "task"))}


def _rows_v21(info: Info) -> list[dict[str, Any]]:
    return list(_lines(info.root / "meta" / "episodes.jsonl", ("episode_index", "length", "tasks")))


def _lines(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Objects of a jsonl file, each with the needed keys."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        yield from ({key: row[key] for key in needed} for row in rows)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {ANEW}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a list of objects with {', '.join(needed)} ({error}); {ANEW}") from None


def _tasks_v30(info: Info) -> dict[int, str]:
    """Texts are the index of a pandas table: a column `task`, or one without a name."""
    path = info.root / "meta" / "tasks.parquet"
    if not path.is_file():
        return {}
    columns = read_columns(path, None)
    texts = next((columns[name] for name in ("task", "__index_level_0__") if name in columns), None)
    if texts is None or "task_index" not in columns:
        raise UserError(f"{path}: has {', '.join(columns)}, expected task and task_index; {ANEW}")
    return {int(number): str(text) for number, text in zip(columns["task_index"], texts, strict=True)}


def _rows_v30(info: Info) -> list[dict[str, Any]]:
    files = sorted((info.root / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise UserError(f"{info.root / 'meta' / 'episodes'}: no parquet file is here; {ANEW}")
    rows: list[dict[str, Any]] = []
    for path in files:
        columns = read_columns(path, EPISODE_COLUMNS)
        rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def read_columns(path: Path, wanted: tuple[str, ...] | None) -> dict[str, list[Any]]:
    """Columns of a small parquet file as lists; UserError where it is broken or lacks one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(columns=None if wanted is None else list(wanted))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a whole parquet file ({' '.join(str(error).split())[:120]}); {ANEW}") from None
    missing = set(wanted or ()) - set(table.column_names)
    if missing:
        raise UserError(f"{path}: lacks the columns {', '.join(sorted(missing))}; {ANEW}")
    return {name: table[name].to_pylist() for name in wanted or table.column_names}
