"""meta/info.json of a LeRobot dataset: which version it is, which features it has. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.datasets.location import INFO, VERSIONS
from policylens.errors import UserError
from policylens.stores.files import read_json

COUNTED = ("total_episodes", "total_frames", "fps")


@dataclass(frozen=True)
class Info:
    """What info.json says.

    root: the dataset's folder. version: of the format. fps: frames per second. features: key -> dtype, shape, names.
    data_path: template of the parquet files' paths. chunk_size: episodes per folder (v2.1).
    """

    root: Path
    version: str
    fps: float
    total_episodes: int
    total_frames: int
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    chunk_size: int


def read_info(root: Path, revision: str | None = None) -> Info:
    """Read and check meta/info.json.

    revision: a version of the format that was asked for. UserError for a folder that holds no dataset, for a version
    that is not read here or not the one asked for, and for a broken file.
    """
    path = Path(root) / INFO
    if not path.is_file():
        raise UserError(f"{root}: no LeRobot dataset is here ({INFO} is missing); correct root, or make the dataset")
    record = read_json(path)
    version = record.get("codebase_version") if isinstance(record, dict) else None
    if version not in VERSIONS:
        raise UserError(
            f"{path}: LeRobot format {version}, only {' and '.join(VERSIONS)} are read; convert it with LeRobot's "
            "lerobot.scripts.convert_dataset_v21_to_v30 (before v2.1: with the converter of the LeRobot that follows)"
        )
    if revision is not None and revision.startswith("v") and revision != version:
        raise UserError(f"{path}: the dataset is {version}, and revision {revision!r} is asked for; name {version!r}")
    missing = [key for key in (*COUNTED, "features", "data_path") if not record.get(key)]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}, or has nothing there; make the dataset anew")
    return Info(
        root=Path(root),
        version=version,
        fps=float(record["fps"]),
        total_episodes=int(record["total_episodes"]),
        total_frames=int(record["total_frames"]),
        features=record["features"],
        data_path=record["data_path"],
        chunk_size=int(record.get("chunks_size", 1000)),
    )
