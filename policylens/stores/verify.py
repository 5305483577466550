"""Re-hash what has been built, and name what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.digest import ArrayDigest
from policylens.stores.files import read_json, sha256_of_file
from policylens.stores.store import ROOT, read_root, stores_under
from policylens.stores.tables import INDEX, rows_of_root

ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Finding:
    """One thing looked at. fault: what is wrong in one line, or None if it is sound."""

    path: Path
    fault: str | None


def verify(path: Path) -> Iterator[Finding]:
    """Check a store, or every store, index and digest-carrying file below a folder; yields a finding for each."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    path = path if path.is_dir() else path.parent
    for store in stores_under(path):
        yield Finding(store, _store_fault(store))
    if path.suffix != ".zarr":
        for index in sorted(path.rglob(INDEX)):
            yield from _index_findings(index)
        for record in sorted([*path.rglob("policy.json"), *path.rglob("cfg.json")]):
            yield from _weights_findings(record)


def _store_fault(store: Path) -> str | None:
    if not (store / ROOT).exists():
        return "unfinished: it has no root zarr.json; the next run clears and rebuilds it"
    try:
        expected = read_root(store)["arrays"]
    except UserError as error:
        return str(error)
    for space in sorted({name.split("/")[0] for name in expected}):
        if not (store / space / ROOT).exists():
            return f"group {space}: missing"
    for name, entry in expected.items():
        fault = _array_fault(store / name, entry)
        if fault:
            return f"array {name}: {fault}"
    return None


def _array_fault(path: Path, entry: dict[str, Any]) -> str | None:
    import zarr

    if not (path / ROOT).exists():
        return "missing"
    try:
        array = zarr.open_array(str(path), mode="r")
        if list(array.shape) != entry["shape"]:
            return f"shape {list(array.shape)}, {entry['shape']} was written"
        if array.dtype != np.dtype(entry["dtype"]):
            return f"dtype {array.dtype}, {entry['dtype']} was written"
        digest = ArrayDigest(np.dtype(entry["dtype"]), tuple(entry["shape"][1:]))
        for start in range(0, array.shape[0], ROWS_AT_ONCE):
            digest.update(array[start : start + ROWS_AT_ONCE])
        sound = digest.hexdigest() == entry["sha256"]
    except Exception as error:  # a damaged file can fail in any layer of the reader
        return f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    return None if sound else "its values are not those that were written"


def _index_findings(index: Path) -> Iterator[Finding]:
    try:
        parts = dict(read_json(index)).get("parts")
        if parts is None:
            return  # an index of other things, which carries no digests
        faults = [fault for part in parts if (fault := _part_fault(index, part))]
    except UserError as error:
        yield Finding(index, str(error))
    except (KeyError, TypeError, ValueError):
        yield Finding(index, "not an index of parts")
    else:
        yield from (Finding(index, fault) for fault in faults or [None])


def _part_fault(index: Path, part: dict[str, Any]) -> str | None:
    store = index.parent / f"{part['name']}.zarr"
    if not (store / ROOT).exists():
        return f"names the part {part['name']}, which is not there"
    if sha256_of_file(store / ROOT) != part["sha256"]:
        return f"was made from another version of the part {part['name']}"
    return None if rows_of_root(read_root(store)) == part["rows"] else f"miscounts the rows of {part['name']}"


def _weights_findings(record: Path) -> Iterator[Finding]:
    try:
        weights = dict(read_json(record)).get("weights")
        if weights is None:
            return  # a record of other things, which carries no digest
        path, expected = record.parent / weights["file"], weights["sha256"]
    except UserError as error:
        yield Finding(record, str(error))
    except (KeyError, TypeError, ValueError):
        yield Finding(record, "does not say what its weights are")
    else:
        fault = f"its sha256 is not the one in {record.name}"
        if not path.exists():
            yield Finding(path, "missing")
        else:
            yield Finding(path, None if sha256_of_file(path) == expected else fault)
