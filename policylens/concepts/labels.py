"""Ground-truth labels of a source's rows, as a store of their own: a new label reruns no rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.store import StoreWriter
from policylens.stores.tables import Table

Labeller = Callable[[Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]

COORDINATES = ("episode", "step")


def write_labels(
    out: Path,
    source: Table,
    part: str,
    labeller: Labeller,
    names: Sequence[str],
    descriptions: Mapping[str, str],
    attributes: Mapping[str, Any],
) -> None:
    """Label one part of a source, row by row, and write the labels as a store aligned with the source's part.

    labeller: a family's `label(rows, names)`: from the source's arrays to one array per label name.
    names: labels to compute. descriptions: name -> one line with its unit, kept as the array's attribute.
    Raises UserError if a label comes out with another number of rows than the source has.
    """
    piece = source.rows_of_part(part)
    rows = {name: source.array(name).read(piece) for name in source.names}
    labels = labeller(rows, names)
    if set(labels) != set(names):
        raise ValueError(f"asked for the labels {sorted(names)}, got {sorted(labels)}")
    with StoreWriter(out, "labels", attributes) as store:
        group = store.group("step", COORDINATES)
        for name, values in labels.items():
            if len(values) != piece.stop - piece.start:
                raise UserError(f"{out}: label {name!r} has {len(values)} rows, the source {piece.stop - piece.start}")
            group.column(name, values.dtype, values.shape[1:], None, {"description": descriptions.get(name, "")})
        group.append({**labels, **{name: rows[name] for name in COORDINATES}})
