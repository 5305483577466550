"""LIBERO's HDF5 files as a LeRobot dataset (v3.0), through lerobot's own writer; pictures as PNG, not video."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.policies.vla.libero.reading import Frames, open_file
from policylens.policies.vla.libero.subset import Subset
from policylens.stores.files import read_json, sha256_of_file, write_json
from policylens.stores.provenance import provenance
from policylens.stores.schemas import check_against

FPS = 20
"""LIBERO's control rate: a step holds its action for 50 ms."""

RECORD = "policylens.json"
LEROBOTS = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
"""Columns that lerobot's writer adds to every dataset."""


def convert(files: Sequence[Path], subset: Subset, out: Path) -> dict[str, Any]:
    """Write the dataset `out`, and policylens.json in it, which says what it holds; returns that record.

    Written beside `out` and moved there last. Raises UserError for broken files, and where nothing is left to convert.
    """
    beside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        episodes = _write(files, subset, beside)
        record = {
            "format": 1,
            "fps": FPS,
            "align": subset.align,
            "actions": subset.actions,
            "tasks": dict(Counter(episode["task"] for episode in episodes)),
            "files": {path: sha256_of_file(Path(path)) for path in dict.fromkeys(e["file"] for e in episodes)},
            "data": {
                str(path.relative_to(beside)): sha256_of_file(path) for path in sorted(beside.glob("data/**/*.parquet"))
            },
            "episodes": episodes,
            "provenance": provenance(settings=asdict(subset)),
        }
        check_against("dataset", record, out / RECORD)
        write_json(beside / RECORD, record)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return record


def _write(files: Sequence[Path], subset: Subset, root: Path) -> list[dict[str, Any]]:
    """Write the dataset's own files; returns per episode where it comes from."""
    episodes, texts = [], []
    with contextlib.ExitStack() as stack:  # lerobot's writer closes its files whatever happens, not when it is freed
        dataset = None
        for path in files:
            with open_file(path) as file:
                texts.append(file.instruction)
                for demo in file.demos[: subset.demos] if subset.takes(file.instruction) else ():
                    frames = file.frames(demo, subset.align, subset.actions)
                    if dataset is None:
                        dataset = _create(root, frames)
                        stack.callback(dataset.finalize)
                    _check_size(dataset, frames, f"{path}: {demo}")
                    _add(dataset, frames, file.instruction)
                    episodes.append(_episode(len(episodes), path, demo, file.instruction, frames))
    if not episodes:
        raise UserError(f"no file is of a task that is asked for; their tasks are: {', '.join(sorted(set(texts)))}")
    shutil.rmtree(root / "images", ignore_errors=True)  # where pictures waited for their episode: empty now
    # lerobot writes the statistics' keys in the order of a set: another one in every process.
    write_json(root / "meta" / "stats.json", read_json(root / "meta" / "stats.json"))
    return episodes


def _episode(number: int, path: Path, demo: str, task: str, frames: Frames) -> dict[str, Any]:
    return {
        "episode": number,
        "file": str(path),
        "demo": demo,
        "task": task,
        "frames": len(frames.step),
        "first_step": int(frames.step[0]),
    }


def _create(root: Path, frames: Frames) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched for a dataset that is made here
    logging.getLogger("lerobot.utils.import_utils").setLevel(logging.ERROR)  # on video decoders, not needed here
    try:
        from datasets import disable_progress_bars
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ModuleNotFoundError:
        raise UserError("writing LeRobot datasets needs lerobot: run in the environment `vla`") from None
    disable_progress_bars()
    return LeRobotDataset.create(
        "local/libero", fps=FPS, features=_features(frames), root=root, robot_type="panda", use_videos=False
    )


def _features(frames: Frames) -> dict[str, dict[str, Any]]:
    """The dataset's columns under the names that lerobot's LIBERO policies take."""
    pictures = {
        f"observation.images.{name}": {
            "dtype": "image",
            "shape": getattr(frames, name).shape[1:],
            "names": ["height", "width", "channel"],
        }
        for name in ("image", "wrist_image")
    }
    joint = {"observation.object_joint": {"dtype": "float32", "shape": (1,), "names": ["joint"]}}
    return {
        **pictures,
        "observation.state": {"dtype": "float32", "shape": (8,), "names": STATE},
        "action": {"dtype": "float32", "shape": (7,), "names": ACTION},
        **({} if frames.object_joint is None else joint),
        **({} if frames.group is None else {"group": {"dtype": "int64", "shape": (1,), "names": None}}),
    }


STATE = ["x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right"]
ACTION = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]


def _check_size(dataset: Any, frames: Frames, where: str) -> None:
    wanted = _features(frames)
    if set(dataset.meta.features) - LEROBOTS != wanted.keys():
        raise UserError(
            f"{where}: has the columns {', '.join(sorted(wanted))}, the demonstrations before it others; convert files "
            "of one kind"
        )
    for name, feature in wanted.items():
        known = tuple(dataset.meta.features[name]["shape"])
        if known != feature["shape"]:
            raise UserError(
                f"{where}: {name} is {feature['shape']}, in the demonstrations before it {known}; "
                "convert files with pictures of one size"
            )


def _add(dataset: Any, frames: Frames, instruction: str) -> None:
    for row in range(len(frames.step)):
        frame: Mapping[str, Any] = {
            "observation.images.image": frames.image[row],
            "observation.images.wrist_image": frames.wrist_image[row],
            "observation.state": frames.state[row],
            "action": frames.action[row],
            "task": instruction,
        }
        more: dict[str, Any] = {}
        if frames.object_joint is not None:
            more["observation.object_joint"] = frames.object_joint[row : row + 1]
        if frames.group is not None:
            more["group"] = np.array([frames.group], np.int64)
        dataset.add_frame({**frame, **more})
    dataset.save_episode()
