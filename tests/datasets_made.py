"""Small LeRobot datasets, laid out as lerobot 0.6.1 writes them (v3.0) and as its predecessors did (v2.1)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OPEN, CLOSE = "open the drawer", "close the drawer"
SIDE = 8
DIMENSIONS = 4


def moving(rng: np.random.Generator, steps: int, sign: int, against: bool = False) -> np.ndarray:
    """States of a demonstration, (steps, 4): far along dimension 1, a little but surely along 2, still in 3."""
    states = rng.normal(scale=0.002, size=(steps, DIMENSIONS)).cumsum(axis=0)
    states[:, 1] += np.linspace(0, 0.5 * sign * (-1 if against else 1), steps)
    states[:, 2] += np.linspace(0, 0.1 * sign, steps)
    states[:, 3] = 0.25
    return states.astype(np.float32)


@dataclass
class Made:
    """Episodes of a dataset, and how they are written. One episode in five moves against its task along dimension 1."""

    tasks: Sequence[str] = (OPEN, CLOSE)
    episodes: int = 10
    seed: int = 0
    states: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    group: bool = False

    def __post_init__(self) -> None:
        """Draw the episodes."""
        rng = np.random.default_rng(self.seed)
        for number in range(self.episodes):
            steps = int(rng.integers(18, 30))
            sign = 1 if self.task_of(number) == 0 else -1
            self.states.append(moving(rng, steps, sign, against=number // len(self.tasks) % 5 == 4))
            self.images.append(rng.integers(0, 256, (steps, SIDE, SIDE, 3), dtype=np.uint8))
            self.actions.append(rng.normal(size=(steps, 2)).astype(np.float32))

    def task_of(self, number: int) -> int:
        """Tasks take turns."""
        return number % len(self.tasks)

    @property
    def lengths(self) -> list[int]:
        """Steps of each episode."""
        return [len(states) for states in self.states]

    @property
    def starts(self) -> list[int]:
        """Each episode's first frame among all frames."""
        return [0, *np.cumsum(self.lengths)[:-1].tolist()]

    def columns(self, number: int) -> dict[str, Any]:
        """The columns of an episode's parquet rows."""
        steps = self.lengths[number]
        index = self.starts[number] + np.arange(steps)
        own = {
            "observation.images.image": [{"bytes": png(image), "path": "x.png"} for image in self.images[number]],
            "observation.state": self.states[number].tolist(),
            "action": self.actions[number].tolist(),
            "timestamp": (np.arange(steps) / 20).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": index,
            "task_index": np.full(steps, self.task_of(number)),
        }
        return own | ({"group": np.full(steps, number // 2)} if self.group else {})

    def table(self, number: int) -> pa.Table:
        """An episode's rows."""
        types = {
            "observation.images.image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "observation.state": pa.list_(pa.float32(), DIMENSIONS),
            "action": pa.list_(pa.float32(), 2),
        }
        return pa.table({key: pa.array(values, types.get(key)) for key, values in self.columns(number).items()})

    def info(self, version: str) -> dict[str, Any]:
        """meta/info.json."""
        features = {
            "observation.images.image": {"dtype": "image", "shape": [SIDE, SIDE, 3], "names": None},
            "observation.state": {"dtype": "float32", "shape": [DIMENSIONS], "names": None},
            "action": {"dtype": "float32", "shape": [2], "names": None},
        }
        for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
            features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
        paths = {
            "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        }
        return {
            "codebase_version": version,
            "fps": 20,
            "features": features,
            "total_episodes": self.episodes,
            "total_frames": sum(self.lengths),
            "total_tasks": len(self.tasks),
            "chunks_size": 1000,
            "data_path": paths.get(version, paths["v2.1"]),
            "video_path": None,
        }

    def write(self, root: Path, version: str) -> Path:
        """Write the dataset."""
        (root / "meta").mkdir(parents=True)
        write_json(root / "meta" / "info.json", self.info(version))
        {"v3.0": self._write_v30, "v2.1": self._write_v21}[version](root)
        return root

    def _write_v30(self, root: Path) -> None:
        """Two data files of half the episodes each, a row group per episode."""
        (root / "data" / "chunk-000").mkdir(parents=True)
        (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        half = (self.episodes + 1) // 2
        rows = []
        for place in range(2):
            numbers = range(self.episodes)[place * half : (place + 1) * half]
            path = root / "data" / "chunk-000" / f"file-{place:03d}.parquet"
            with pq.ParquetWriter(path, self.table(0).schema) as writer:
                for number in numbers:
                    writer.write_table(self.table(number))
            rows += [self.episode(number) | {"data/chunk_index": 0, "data/file_index": place} for number in numbers]
        pq.write_table(pa.Table.from_pylist(rows), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
        tasks = pa.table({"task_index": range(len(self.tasks)), "task": list(self.tasks)})
        pq.write_table(tasks, root / "meta" / "tasks.parquet")

    def _write_v21(self, root: Path) -> None:
        (root / "data" / "chunk-000").mkdir(parents=True)
        for number in range(self.episodes):
            pq.write_table(self.table(number), root / "data" / "chunk-000" / f"episode_{number:06d}.parquet")
        write_lines(root / "meta" / "episodes.jsonl", [self.episode(number) for number in range(self.episodes)])
        tasks = [{"task_index": number, "task": text} for number, text in enumerate(self.tasks)]
        write_lines(root / "meta" / "tasks.jsonl", tasks)

    def episode(self, number: int) -> dict[str, Any]:
        """What meta says of an episode in either version."""
        return {"episode_index": number, "length": self.lengths[number], "tasks": [self.tasks[self.task_of(number)]]}


def png(image: np.ndarray) -> bytes:
    """An image as the bytes of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
