"""Finished pieces of a long measurement, kept until the whole is written: an interrupted job goes on from them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from policylens.errors import UserError
from policylens.stores.files import read_tensors, remove_partial, write_tensors, write_text
from policylens.stores.names import check_name

STAMP = "stamp"

Arrays = dict[str, np.ndarray]


class Shelf:
    """A folder of pieces by name. stamp: of all that the pieces follow from; those of another stamp are thrown away."""

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder = Path(folder)
        self._digest = hashlib.sha256(stamp.encode()).hexdigest()
        place = self.folder / STAMP
        if self.folder.exists() and (not place.is_file() or place.read_text(encoding="utf-8") != self._digest):
            shutil.rmtree(self.folder)
        elif self.folder.exists():
            remove_partial(self.folder)

    def has(self, name: str) -> bool:
        """Whether there is a piece of that name."""
        return self._place(name).exists()

    def piece(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Arrays:
        """The piece of that name: as it was kept, or made now and kept.

        Raises UserError, which says what to delete, for a kept piece that is damaged.
        """
        path = self._place(name)
        if path.exists():
            try:
                return {key: tensor.numpy() for key, tensor in read_tensors(path).items()}
            except UserError:
                raise UserError(f"{path}: the piece is damaged; delete the file, and it is measured again") from None
        made = dict(make())
        if not self.folder.exists():  # not before there is something to keep: bad input leaves nothing
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / STAMP, self._digest)
        write_tensors(path, {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in made.items()})
        return made

    def _place(self, name: str) -> Path:
        return self.folder / f"{check_name(name, 'the piece')}.safetensors"

    def clear(self) -> None:
        """Throw the pieces away: the whole has been written."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
