"""What a policy learns from: frames of whole episodes, each with what the expert would do next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.vla.libero.reading import Frames as Recorded
from policylens.policies.vla.libero.reading import open_file
from policylens.policies.vla.libero.tasks import TASKS, task
from policylens.policies.vla.play import Played

SLUGS = sorted(TASKS)


def fields(size: int) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Column -> dtype and shape of a row, of pictures of so many pixels a side."""
    picture = (np.uint8, (size, size, 3))
    return {
        "image": picture,
        "wrist_image": picture,
        "state": (np.float32, (8,)),
        "taught": (np.float32, (7,)),
        "task": (np.int32, ()),
        "episode": (np.int32, ()),
    }


class Frames:
    """columns: see `fields`, (n, ...); rows of an episode together and in order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.columns: dict[str, NDArray] = {
            name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in fields(size).items()
        }

    def __len__(self) -> int:
        return len(self.columns["episode"])

    def add(self, parts: Iterable[dict[str, NDArray]]) -> None:
        """Add episodes: each a column -> (length, ...) but for `episode`, which is counted on."""
        parts = list(parts)
        first = int(self.columns["episode"].max(initial=-1)) + 1
        for number, part in enumerate(parts):
            part["episode"] = np.full(len(part["taught"]), first + number, np.int32)
        for name, (dtype, _) in fields(self.size).items():
            new = [np.asarray(part[name], dtype) for part in parts]
            self.columns[name] = np.concatenate([self.columns[name], *new])

    def chunks(self, length: int) -> NDArray[np.int64]:
        """(n, length) rows of the next actions of each frame's episode; its last is repeated past the end."""
        episode = self.columns["episode"]
        last = np.flatnonzero(np.r_[episode[1:] != episode[:-1], True])
        end = last[np.searchsorted(last, np.arange(len(episode)))]
        return np.minimum(np.arange(len(episode))[:, None] + np.arange(length), end[:, None])


def of_played(played: Played) -> dict[str, NDArray]:
    """An episode in which the expert was asked, as a part for `Frames.add`."""
    arrays = played.arrays()
    return {**arrays, "task": np.full(played.length, SLUGS.index(played.task.slug), np.int32)}


def of_demonstrations(index: Path, size: int) -> list[dict[str, NDArray]]:
    """Demonstrations (index.json of `results/demonstrations/{name}`) as parts for `Frames.add`.

    A frame pairs what was seen after a step with what the expert wanted next. Raises UserError for files without
    the expert's actions or with pictures of another size.
    """
    parts = []
    for path in sorted(Path(index).parent.glob("*.hdf5")):
        with open_file(path) as file:
            number = SLUGS.index(task(file.instruction).slug)
            parts += [_part(path, file.frames(demo, actions="expert_actions"), number, size) for demo in file.demos]
    if not parts:
        raise UserError(f"{index}: there are no demonstrations beside it; build it first")
    return parts


def _part(path: Path, found: Recorded, number: int, size: int) -> dict[str, NDArray]:
    have = found.image.shape[1:3]
    if have != (size, size):
        raise UserError(f"{path}: its pictures are {have[1]} pixels wide, the training's settings say {size}")
    columns = {name: getattr(found, name) for name in ("image", "wrist_image", "state")}
    return {**columns, "taught": found.action, "task": np.full(len(found.action), number, np.int32)}
