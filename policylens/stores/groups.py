"""Reading a finished store of results: its root's attributes, and all arrays of a group at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policylens.errors import UserError
from policylens.stores.store import read_root


class Groups:
    """A finished store. attributes: of its root."""

    def __init__(self, path: Path) -> None:
        """path: the store. Raises UserError if it is not whole."""
        self.path = Path(path)
        self.attributes = read_root(self.path)
        self._names = [name.split("/") for name in self.attributes["arrays"]]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """All arrays of a group; UserError if there is none."""
        import zarr

        own = [array for group, array in self._names if group == name]
        if not own:
            known = ", ".join(sorted({group for group, _ in self._names}))
            raise UserError(f"{self.path}: has no group {name!r}; it has: {known}")
        return {array: zarr.open_array(str(self.path / name / array), mode="r")[:] for array in own}

    def has(self, name: str) -> bool:
        """Whether there is such a group."""
        return any(group == name for group, _ in self._names)
