"""Reading: all parts of a source, label set or capture as one table per row space.

A folder of parts has an `index.json` that names the parts in order; what it does not name is not read.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.files import read_json, sha256_of_file, write_json
from policylens.stores.store import ROOT, read_root

INDEX = "index.json"


def write_index(folder: Path, parts: Sequence[str], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the index of a folder of parts (:func:`make_index`), with `extra` entries, and return it."""
    record = {**make_index(folder, parts), **(extra or {})}
    write_json(Path(folder) / INDEX, record)
    return record


def make_index(folder: Path, parts: Sequence[str]) -> dict[str, Any]:
    """The index of a folder of parts: their names in order, sizes, and what their roots have in common.

    parts: names without ".zarr". Each part's root is hashed, and holds the digests of its arrays, so that the index
    changes if and only if content does. Raises UserError if parts differ in their arrays or share an episode.
    """
    folder = Path(folder)
    roots = {part: read_root(folder / f"{part}.zarr") for part in parts}
    if not roots:
        raise UserError(f"{folder}: there are no parts to index")
    arrays = _common_arrays(folder, roots)
    for name in arrays:
        if name.endswith("/episode") and not name.startswith("episode/"):
            _check_episodes(folder, parts, name.partition("/")[0])
    return {
        "kind": next(iter(roots.values()))["kind"],
        "arrays": arrays,
        "parts": [
            {
                "name": part,
                "rows": rows_of_root(root),
                "sha256": sha256_of_file(folder / f"{part}.zarr" / ROOT),
            }
            for part, root in roots.items()
        ],
        "rows": {
            space: sum(rows_of_root(root)[space] for root in roots.values()) for space in rows_of_root(roots[parts[0]])
        },
    }


def _check_episodes(folder: Path, parts: Sequence[str], space: str) -> None:
    """Parts hold whole episodes: a number in two parts is two episodes that would be taken for one."""
    import zarr

    part_of: dict[int, str] = {}
    for part in parts:
        for episode in np.unique(zarr.open_array(str(folder / f"{part}.zarr" / space / "episode"), mode="r")[:]):
            if part_of.setdefault(int(episode), part) != part:
                raise UserError(
                    f"{folder / part}.zarr: episode {episode} is in {part_of[int(episode)]} too; "
                    "give every episode a number of its own across all parts"
                )


def rows_of_root(root: Mapping[str, Any]) -> dict[str, int]:
    """Row space -> number of rows, as a store's root says."""
    return {name.split("/")[0]: entry["shape"][0] for name, entry in root["arrays"].items()}


def _common_arrays(folder: Path, roots: Mapping[str, Any]) -> dict[str, Any]:
    """Array -> dtype and row shape, which must be the same in every part."""
    kinds = {
        part: {name: [entry["dtype"], entry["shape"][1:]] for name, entry in root["arrays"].items()}
        for part, root in roots.items()
    }
    first = next(iter(kinds.values()))
    for part, arrays in kinds.items():
        if arrays != first:
            differing = sorted(name for name in arrays.keys() | first.keys() if arrays.get(name) != first.get(name))
            raise UserError(
                f"{folder / part}.zarr: its arrays differ from the other parts' in {', '.join(differing)}; "
                "make the parts again with one configuration"
            )
    return {name: {"dtype": dtype, "row_shape": shape} for name, (dtype, shape) in first.items()}


class Column:
    """One array over all parts, read lazily.

    shape: (rows, *row shape). dtype: as stored; bfloat16, which is stored as its bits, is read as float32. description:
    the array's attribute, a label's meaning and unit; "" where it has none.
    """

    def __init__(self, name: str, arrays: Sequence[Any]) -> None:
        self.name, self._arrays = name, list(arrays)
        counts = [array.shape[0] for array in self._arrays]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.shape = (int(self._starts[-1]), *self._arrays[0].shape[1:])
        self.description = str(self._arrays[0].attrs.get("description", ""))
        self._bits = self._arrays[0].attrs.get("encoding") == "bfloat16"
        self.dtype = np.dtype(np.float32) if self._bits else self._arrays[0].dtype

    def read(self, rows: np.ndarray | slice | None = None) -> np.ndarray:
        """Values at the given rows (any order, repeats allowed), at a slice, where a mask is true, or all."""
        if rows is None:
            rows = slice(None)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                return self._read_range(start, stop)
            rows = np.arange(start, stop, step)
        rows = self._numbers(np.asarray(rows))
        if rows.size and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise IndexError(f"rows of {self.name!r} go from 0 to {self.shape[0] - 1}")
        return self._read_scattered(rows)

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers, int64, from row numbers or from one truth value per row."""
        if rows.dtype == bool:
            if rows.shape != self.shape[:1]:
                raise IndexError(f"{self.name!r} has {self.shape[0]} rows, the mask has shape {rows.shape}")
            return np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise IndexError(f"rows of {self.name!r} are integers or a mask, got {rows.dtype}")
        return rows.astype(np.int64)

    def chunks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, values) of consecutive pieces of at most `size` rows, part by part."""
        for part, array in enumerate(self._arrays):
            for start in range(0, array.shape[0], size):
                yield int(self._starts[part]) + start, self._decoded(array[start : start + size])

    def _decoded(self, values: np.ndarray) -> np.ndarray:
        return (values.astype(np.uint32) << 16).view(np.float32) if self._bits else values

    def _read_range(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        for part, array in enumerate(self._arrays):
            low, high = start - self._starts[part], stop - self._starts[part]
            if high > 0 and low < array.shape[0]:
                pieces.append(self._decoded(array[max(0, low) : min(array.shape[0], high)]))
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def _read_scattered(self, rows: np.ndarray) -> np.ndarray:
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._starts)
        for part, array in enumerate(self._arrays):
            places = order[bounds[part] : bounds[part + 1]]
            if len(places):
                values[places] = self._decoded(_gather(array, rows[places] - self._starts[part]))
        return values


def _gather(array: Any, rows: np.ndarray) -> np.ndarray:
    """Rows (sorted) of one zarr array: densely needed spans are read whole, then picked from."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first <= 8 * len(rows):
        return array[first:last][rows - first]
    return array.oindex[rows]


class Table:
    """All parts of a folder, for one row space. Columns and coordinates are read when asked for."""

    def __init__(self, folder: Path, row_space: str, index: Mapping[str, Any]) -> None:
        self.folder, self.row_space, self.index = Path(folder), row_space, index
        self.parts: list[str] = [part["name"] for part in index["parts"]]
        self.n_rows: int = index["rows"][row_space]

    @property
    def names(self) -> list[str]:
        """Names of all arrays."""
        return [name.split("/")[1] for name in self.index["arrays"] if name.startswith(f"{self.row_space}/")]

    @functools.cached_property
    def attributes(self) -> dict[str, Any]:
        """What the root of the first part says (provenance and the like)."""
        return read_root(self.folder / f"{self.parts[0]}.zarr")

    def array(self, name: str) -> Column:
        """A column by name; UserError if there is none."""
        import zarr

        if name not in self.names:
            raise UserError(
                f"{self.folder}: no array {name!r} in row space {self.row_space!r}; there are: {', '.join(self.names)}"
            )
        self._check_parts()
        paths = [self.folder / f"{part}.zarr" / self.row_space / name for part in self.parts]
        return Column(name, [zarr.open_array(str(path), mode="r") for path in paths])

    def _check_parts(self) -> None:
        """A part that is being made again, or has been, is not what the index counts rows of."""
        for part in self.index["parts"]:
            root = self.folder / f"{part['name']}.zarr" / ROOT
            if not root.exists():
                raise UserError(
                    f"{root.parent}: the part is not there, or not finished; make it again (where the capture is "
                    "`prunable` in the config, it was deleted once everything that was asked for had been built)"
                )
            if sha256_of_file(root) != part["sha256"]:
                raise UserError(f"{root.parent}: not the part that {INDEX} was made from; make {INDEX} again")

    def coordinate(self, name: str) -> np.ndarray:
        """A whole column as one array, kept after the first reading. For coordinates and labels."""
        if name not in self._coordinates:
            self._coordinates[name] = self.array(name).read()
        return self._coordinates[name]

    @functools.cached_property
    def _coordinates(self) -> dict[str, np.ndarray]:
        return {}

    def rows_of_part(self, part: str) -> slice:
        """The rows that a part holds in the whole table."""
        counts = [entry["rows"][self.row_space] for entry in self.index["parts"]]
        if part not in self.parts:
            raise UserError(f"{self.folder}: has no part {part!r}; it has: {', '.join(self.parts)}")
        position = self.parts.index(part)
        return slice(sum(counts[:position]), sum(counts[: position + 1]))

    def part_of_row(self, row: int) -> str:
        """The name of the part that holds a row."""
        counts = [entry["rows"][self.row_space] for entry in self.index["parts"]]
        return self.parts[bisect.bisect_right(list(np.cumsum(counts)), row)]


def open_table(folder: Path, row_space: str | None = None) -> Table:
    """Open a folder of parts (source, label set or capture); UserError if it has no index or no such row space.

    row_space: "step" if None, or the only one that there is.
    """
    folder = Path(folder)
    if not (folder / INDEX).exists():
        raise UserError(f"{folder}: no {INDEX} here; build it first (snakemake {folder / INDEX})")
    index = read_json(folder / INDEX)
    if row_space is None:
        row_space = next(iter(index["rows"])) if len(index["rows"]) == 1 else "step"
    if row_space not in index["rows"]:
        raise UserError(f"{folder}: no row space {row_space!r}; there are: {', '.join(index['rows'])}")
    return Table(folder, row_space, index)


def row_space_of(folder: Path) -> str:
    """The one row space of a folder of parts (a capture); UserError if it has several."""
    index = read_json(Path(folder) / INDEX)
    if len(index["rows"]) != 1:
        raise UserError(f"{folder}: has several row spaces: {', '.join(index['rows'])}; name a capture")
    return next(iter(index["rows"]))
