"""Writing a store: sharded zarr v3 that is whole or not there at all. docs/formats.md is normative.

A store is a zarr group `<part>.zarr` with one subgroup per row space. Its root zarr.json, which also carries the
provenance and every array's digest, is written last and atomically: without it there is no store.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.buffers import DoubleBuffer
from policylens.stores.digest import ArrayDigest
from policylens.stores.files import write_text
from policylens.stores.layout import SHARD_BYTES, rows_per_chunk, rows_per_shard
from policylens.stores.lock import writing
from policylens.stores.names import check_name
from policylens.stores.queue import WriteQueue
from policylens.stores.shards import write_shard

FORMAT = 1
ROOT = "zarr.json"
ATTRIBUTE = "policylens"
KINDS = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floats"}
"""NumPy's kinds of dtypes that a store holds."""


@dataclass(frozen=True)
class Threads:
    """The two threads behind a store. Hashing and writing take about as long: neither waits for the other."""

    hashing: WriteQueue
    writing: WriteQueue


class Column:
    """One array of a store being written, appended to in rows, hashed and put on disk in whole shards."""

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: np.dtype,
        row_shape: tuple[int, ...],
        dimensions: tuple[str, ...],
        attributes: Mapping[str, Any],
        shard_bytes: int,
        threads: Threads,
        expected_rows: int | None = None,
    ) -> None:
        self.name, self.dtype, self.row_shape = name, _storable(folder, name, dtype), tuple(row_shape)
        self.digest = ArrayDigest(self.dtype, self.row_shape)
        self.rows = 0
        row_bytes = self.dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))
        self._shard_rows = rows_per_shard(row_bytes, shard_bytes, expected_rows)
        self._buffer = DoubleBuffer(
            self._shard_rows, self.row_shape, self.dtype, self._start_hashing, self._start_writing
        )
        self._threads = threads
        self._written = 0
        self._folder = folder / name
        chunk_rows = rows_per_chunk(row_bytes, shard_bytes, expected_rows)
        self._array = _create(self._folder, self, dimensions, attributes, chunk_rows)

    def append(self, rows: np.ndarray) -> None:
        """Copy rows, (n, *row_shape), and start writing what fills a shard."""
        rows = np.asarray(rows)
        if rows.shape[1:] != self.row_shape:
            raise ValueError(f"array {self.name!r} holds rows of shape {self.row_shape}, got {rows.shape[1:]}")
        self.rows += len(rows)
        self._buffer.append(rows)

    def flush(self) -> None:
        """Start writing the rest: the last shard, which need not be full."""
        self._buffer.flush()

    def entry(self) -> dict[str, Any]:
        """What the root says of this array, once everything has been written."""
        return {"sha256": self.digest.hexdigest(), "dtype": self.dtype.str, "shape": [self.rows, *self.row_shape]}

    def _start_hashing(self, rows: np.ndarray) -> Event:
        return self._threads.hashing.put(self.digest.update, rows)

    def _start_writing(self, shard: np.ndarray) -> Event:
        return self._threads.writing.put(self._write, shard)

    def _write(self, rows: np.ndarray) -> None:
        start, self._written = self._written, self._written + len(rows)
        self._array.resize((self._written, *self.row_shape))
        if self._array.compressors or not rows.nbytes:
            self._array[start : self._written] = rows
        else:
            write_shard(self._folder, start // self._shard_rows, rows, self._array.chunks[0], self._shard_rows)

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of a shard."""
        return (self._shard_rows, *self.row_shape)


def _storable(folder: Path, name: str, dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.kind not in KINDS or dtype.itemsize > 8:
        raise UserError(f"{folder}: array {name!r} is {dtype}; a store holds {', '.join(KINDS.values())}, no text")
    return dtype.newbyteorder("<")


def _create(
    path: Path, column: Column, dimensions: tuple[str, ...], attributes: Mapping[str, Any], chunk_rows: int
) -> Any:
    import zarr
    from zarr.codecs import ZstdCodec

    # Activations are noise to a compressor (92% of their size at a third of the reading speed); codes and
    # observations shrink manyfold.
    noisy = column.dtype.kind == "f" or "encoding" in attributes
    return zarr.create_array(
        store=str(path),
        shape=(0, *column.row_shape),
        dtype=column.dtype,
        chunks=(chunk_rows, *column.row_shape),
        shards=column.shards,
        compressors=None if noisy else ZstdCodec(level=1),
        fill_value=0,
        dimension_names=dimensions,
        attributes=dict(attributes),
        # Otherwise zarr compares every chunk with the fill value, which takes as long as writing it.
        config={"write_empty_chunks": True},
    )


class Group:
    """The arrays of one row space in a store being written. All must end with the same number of rows."""

    def __init__(self, folder: Path, coordinates: tuple[str, ...], threads: Threads, shard_bytes: int) -> None:
        self.folder, self.coordinates = folder, coordinates
        self.columns: dict[str, Column] = {}
        self._threads, self._shard_bytes = threads, shard_bytes

    def column(
        self,
        name: str,
        dtype: Any,
        row_shape: tuple[int, ...] = (),
        dimensions: tuple[str, ...] | None = None,
        attributes: Mapping[str, Any] | None = None,
        expected_rows: int | None = None,
    ) -> None:
        """Declare an array. dimensions: names incl. "row"; given where one differs from `<name>_<axis>`.

        expected_rows: where known, so that an array of few rows is not padded to a whole chunk.
        """
        if dimensions is None:
            dimensions = ("row", *(f"{name}_{axis}" for axis in range(len(row_shape))))
        check_name(name, f"{self.folder}: the array")
        self.columns[name] = Column(
            self.folder,
            name,
            dtype,
            row_shape,
            dimensions,
            attributes or {},
            self._shard_bytes,
            self._threads,
            expected_rows,
        )

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add rows to several arrays; arrays not yet declared are, from what they look like.

        They are copied; hashing and writing happen on other threads. Waits while both buffers of an array are full.
        """
        lengths = {name: len(values) for name, values in rows.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"arrays of one row space must have equally many rows, got {lengths}")
        for name, values in rows.items():
            if name not in self.columns:
                values = np.asarray(values)
                self.column(name, values.dtype, values.shape[1:])
            self.columns[name].append(values)


class StoreWriter:
    """A store being written. Leaving the block well commits it; leaving it by an exception leaves no store."""

    def __init__(self, path: Path, kind: str, attributes: Mapping[str, Any], shard_bytes: int = SHARD_BYTES) -> None:
        """path: `<part>.zarr`. kind: "source", "labels", "capture"... attributes: JSON values of the root."""
        self.path, self._kind, self._attributes = Path(path), kind, dict(attributes)
        self._shard_bytes = shard_bytes
        self._groups: dict[str, Group] = {}
        self._threads = Threads(WriteQueue("store-hasher"), WriteQueue("store-writer"))
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> StoreWriter:
        with contextlib.ExitStack() as stack:  # whatever fails here, the lock is given back
            stack.enter_context(writing(self.path))
            clear(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            stack.push(self._remove_remains)
            stack.enter_context(self._threads.hashing)
            stack.enter_context(self._threads.writing)
            self._exit = stack.pop_all()
        return self

    def _remove_remains(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a failure: give the space back (the disk may be full), and say whose write it was that failed."""
        if error is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            error.filename = str(self.path)

    def group(self, row_space: str, coordinates: tuple[str, ...] = ()) -> Group:
        """The group of a row space; `coordinates` are the arrays that xarray shall take for coordinates."""
        if row_space not in self._groups:
            self._groups[row_space] = Group(self.path / row_space, coordinates, self._threads, self._shard_bytes)
        return self._groups[row_space]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._exit.__exit__(kind, error, trace)
            return
        with self._exit:
            self._finish()
            self._commit()

    def _finish(self) -> None:
        for group in self._groups.values():
            for column in group.columns.values():
                column.flush()
        self._threads.hashing.drain()
        self._threads.writing.drain()

    def _commit(self) -> None:
        arrays: dict[str, Any] = {}
        for row_space, group in self._groups.items():
            finished = {name: column.entry() for name, column in group.columns.items()}
            lengths = {entry["shape"][0] for entry in finished.values()}
            if len(lengths) > 1:
                raise ValueError(f"{self.path}/{row_space}: arrays ended with different numbers of rows: {lengths}")
            arrays |= {f"{row_space}/{name}": entry for name, entry in finished.items()}
            _write_group(group.folder, {"coordinates": " ".join(group.coordinates)} if group.coordinates else {})
        record = {"format": FORMAT, "kind": self._kind, **self._attributes, "arrays": arrays}
        _write_group(self.path, {ATTRIBUTE: record})


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_text(folder / ROOT, json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")


def clear(path: Path) -> None:
    """Remove a store or the remains of one, its root first, so that a half-removed store is none."""
    (path / ROOT).unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)


def read_root(path: Path) -> dict[str, Any]:
    """What the root of a store says (format, kind, provenance, digests...); UserError if it is not a whole store."""
    root = Path(path) / ROOT
    try:
        record = json.loads(root.read_text(encoding="utf-8"))["attributes"][ATTRIBUTE]
        version, _ = record["format"], dict(record["arrays"])
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: not a finished store (no {ROOT}); make it again") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{root}: not the root of a store of this project; make it again") from None
    if version != FORMAT:
        raise UserError(f"{root}: store format {version}, this version reads {FORMAT}; make it again")
    return record


def stores_under(path: Path) -> Iterator[Path]:
    """All store folders at or below a path, finished or not, sorted."""
    path = Path(path)
    if path.suffix == ".zarr":
        yield path
        return
    for folder in sorted(path.rglob("*.zarr")):
        if folder.is_dir():
            yield folder
