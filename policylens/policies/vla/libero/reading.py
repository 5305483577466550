"""Reading LIBERO's HDF5 files, checked: our demonstrations', LIBERO's own, and others of the same layout."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.vla.libero.orientation import upright
from policylens.policies.vla.libero.subset import ACTIONS, ALIGNMENTS

PICTURES = {"image": "agentview_rgb", "wrist_image": "eye_in_hand_rgb"}
_NEEDED = ("actions", "obs/agentview_rgb", "obs/eye_in_hand_rgb", "obs/ee_states", "obs/gripper_states")


@dataclass(frozen=True)
class Frames:
    """n frames of one demonstration, upright: each an observation and the action that was taken in it.

    image, wrist_image: uint8 (n, h, w, 3). state: float32 (n, 8), hand's position (m), axis times angle (rad), fingers
    (m). action: float32 (n, 7). step: int32 (n,), row of the action in the file.
    Of demonstrations recorded here alone: object_joint, float32 (n,), what the task moves (m or rad); group,
    a number of the initial state, which episodes of several tasks may share.
    """

    image: NDArray[np.uint8]
    wrist_image: NDArray[np.uint8]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    step: NDArray[np.int32]
    object_joint: NDArray[np.float32] | None = None
    group: int | None = None


class LiberoFile:
    """An open file. path; instruction: what the task is called; demos: names of its groups, in order."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self._data = path, data
        self.instruction = _instruction(path, data)
        self.demos = sorted((name for name in data if re.fullmatch(r"demo_\d+", name)), key=_number)
        if not self.demos:
            raise UserError(f"{path}: holds no demonstration (groups data/demo_0, ...); record or download it again")

    def lengths(self) -> list[int]:
        """How many steps each demonstration has, in order."""
        return [len(self._array(self._data[demo], ACTIONS[0])) for demo in self.demos]

    def frames(self, demo: str, align: str = ALIGNMENTS[0], actions: str = ACTIONS[0]) -> Frames:
        """A demonstration as frames.

        align: LIBERO writes obs[j] AFTER actions[j]. `before` pairs actions[j] with obs[j - 1], what was seen when it
        was chosen; the first action, before which nothing is on record, is left out. `rows` pairs what stands in one
        row, as LIBERO's own loader does; it is right for files that were played again with obs before actions.
        actions: the array to take them from.
        """
        group = self._data[demo]
        taken = self._array(group, actions)
        pictures = {name: self._pictures(group, f"obs/{key}") for name, key in PICTURES.items()}
        state = np.concatenate([self._array(group, f"obs/{key}") for key in ("ee_states", "gripper_states")], axis=1)
        lengths = {len(values) for values in (taken, state, *pictures.values())}
        if len(lengths) > 1 or taken.shape[1:] != (7,) or state.shape[1:] != (8,) or len(taken) < 2:
            raise UserError(
                f"{self.path}: {demo} does not hold as many rows of {actions} (7), ee_states (6), gripper_states (2) "
                "and pictures, two at least; record or download it again"
            )
        seen, acted = (slice(None, -1), slice(1, None)) if align == "before" else (slice(None), slice(None))
        return Frames(
            **{name: upright(values[seen]) for name, values in pictures.items()},
            state=state[seen].astype(np.float32),
            action=taken[acted].astype(np.float32),
            step=np.arange(len(taken), dtype=np.int32)[acted],
            object_joint=group["obs/object_joint"][()][seen].astype(np.float32)
            if "obs/object_joint" in group
            else None,
            group=self._group(group),
        )

    def _group(self, group: Any) -> int | None:
        """Pair, seed and number of the initial state as one number; None where the file does not say."""
        if "initial_state" not in group.attrs or "pair" not in self._data.attrs:
            return None
        words = [str(self._data.attrs["pair"]), *(int(number) for number in group.attrs["initial_state"])]
        digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1  # within int64

    def _array(self, group: Any, key: str) -> NDArray:
        if key not in group:
            raise UserError(
                f"{self.path}: {group.name} has no array {key!r}, which "
                + ("this conversion needs" if key in _NEEDED else "only demonstrations recorded here have")
            )
        values = group[key][()]
        if values.dtype.kind not in "fui" or values.ndim < 2:
            raise UserError(f"{self.path}: {group.name}/{key} is not an array of numbers, one row a step")
        if not np.isfinite(values).all():
            raise UserError(f"{self.path}: {group.name}/{key} holds values that are not finite")
        return values

    def _pictures(self, group: Any, key: str) -> NDArray[np.uint8]:
        values = self._array(group, key)
        if values.ndim != 4 or values.shape[3] != 3 or values.dtype != np.uint8:
            raise UserError(f"{self.path}: {group.name}/{key} is not uint8 (steps, height, width, 3)")
        return values


@contextmanager
def open_file(path: Path) -> Iterator[LiberoFile]:
    """Open a LIBERO HDF5 file; UserError for one that is missing, broken or of another layout."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError("reading LIBERO's files needs h5py: run in the environment `vla` (envs/run vla ...)") from None
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a whole HDF5 file ({error}); download or record it again") from None
    with file:
        if "data" not in file:
            raise UserError(f"{path}: not a LIBERO file of demonstrations: it has no group 'data'")
        yield LiberoFile(Path(path), file["data"])


def _instruction(path: Path, data: Any) -> str:
    """The task's text. LIBERO keeps it as JSON, in some files as a list of characters, in some in quotes."""
    try:
        found = json.loads(data.attrs["problem_info"])["language_instruction"]
        text = "".join(found).strip().strip('"').strip()
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: its group 'data' does not say what the task is (attribute problem_info, language_instruction)"
        ) from None
    if not text:
        raise UserError(f"{path}: the text of its task is empty")
    return text


def _number(name: str) -> int:
    return int(name.removeprefix("demo_"))
