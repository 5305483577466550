"""The final split of every row of a source, where near-identical rows must not fall on both sides.

A source whose rows have a `group` (Othello: the symmetry class of a position) gets a store `splits.zarr`: a group
that occurs in several splits keeps its rows in one of them, elsewhere they are excluded (code 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.capture.settings import shares
from policylens.errors import UserError
from policylens.stores.files import write_json
from policylens.stores.splits import SPLITS, separate_groups
from policylens.stores.store import StoreWriter
from policylens.stores.tables import INDEX, Table, make_index

STORE = "splits.zarr"


def write_splits(source: Path, parts: list[str], fractions: Mapping[str, float], salt: str) -> dict[str, Any]:
    """Write a source's `splits.zarr` (final split code per row, all parts in order) and its index.json.

    Returns the index, whose `splits` counts rows and episodes per split.
    """
    index = make_index(source, parts)
    table = Table(source, "step", index)
    (source / INDEX).unlink(missing_ok=True)  # it comes last: with it, the splits are the ones of these parts
    codes = table.coordinate("split")
    if "group" in table.names:
        codes = separate_groups(codes, table.coordinate("group"), shares(fractions), salt)
    with StoreWriter(source / STORE, "splits", {"names": list(SPLITS)}) as store:
        store.group("step", ("episode", "step")).append(
            {"split": codes, "episode": table.coordinate("episode"), "step": table.coordinate("step")}
        )
    index["splits"] = _counts(codes, table.coordinate("episode"))
    write_json(source / INDEX, index)
    return index


def given_splits(what: str, values: np.ndarray) -> np.ndarray:
    """Split codes that a user's file brings, as int8; UserError, which names `what`, if they are none."""
    if values.dtype.kind not in "iu" or (len(values) and not 0 <= values.min() <= values.max() < len(SPLITS)):
        codes = ", ".join(f"{code} {name}" for code, name in enumerate(SPLITS))
        raise UserError(f"{what}: array 'split' must hold codes ({codes}); correct it or leave it out")
    return values.astype(np.int8)


def _counts(codes: np.ndarray, episodes: np.ndarray) -> dict[str, dict[str, int]]:
    return {
        name: {"rows": int((codes == code).sum()), "episodes": len(np.unique(episodes[codes == code]))}
        for code, name in enumerate(SPLITS)
    }


def final_splits(source: Path, rows: slice) -> np.ndarray:
    """Final split codes (int8) of some rows of a source."""
    import zarr

    path = source / STORE / "step" / "split"
    if not (source / STORE / "zarr.json").exists():
        raise UserError(f"{source / STORE}: not built yet; build the source's index.json first")
    return zarr.open_array(str(path), mode="r")[rows]
