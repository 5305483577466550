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
from policylens.stores.tables import INDEX

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
        digest = ArrayDigest(np.dtype(entry["dtype"]), tuple(entry["shape"][1:]))
        for start in range(0, array.shape[0], ROWS_AT_ONCE):
            digest.update(array[start : start + ROWS_AT_ONCE])
    except Exception as error:  # a damaged file can fail in any layer of the reader
        return f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    return None if digest.hexdigest() == entry["sha256"] else "its values are not those that were written"


def _index_findings(index: Path) -> Iterator[Finding]:
    try:
        parts = read_json(index).get("parts", [])
    except UserError as error:
        yield Finding(index, str(error))
        return
    for part in parts:
        if not isinstance(part, dict) or "sha256" not in part:
            continue
        root = index.parent / f"{part['name']}.zarr" / ROOT
        if not root.exists():
            yield Finding(index, f"names the part {part['name']}, which is not there")
        elif sha256_of_file(root) != part["sha256"]:
            yield Finding(index, f"was made from another version of the part {part['name']}")


def _weights_findings(record: Path) -> Iterator[Finding]:
    try:
        weights = read_json(record).get("weights", {})
    except UserError as error:
        yield Finding(record, str(error))
        return
    if not isinstance(weights, dict) or "sha256" not in weights:
        return
    path = record.parent / weights["file"]
    if not path.exists():
        yield Finding(path, "missing")
    else:
        sound = sha256_of_file(path) == weights["sha256"]
        yield Finding(path, None if sound else f"its sha256 is not the one in {record.name}")
