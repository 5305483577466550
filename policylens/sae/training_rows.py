"""The training rows of captures: the split `train`, what the filters leave of it, at most so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policylens.errors import UserError
from policylens.sae.filters import Lookup, selected, weighted
from policylens.sae.selection import Piece, Selection
from policylens.stores.splits import SPLITS, TRAIN
from policylens.stores.tables import Table, open_table


class Recorded(NamedTuple):
    """A capture and what is known of its rows. labels: name of a label set -> its folder."""

    capture: Path
    labels: Mapping[str, Path]


def training_rows(
    recorded: Sequence[Recorded],
    site: str,
    output_site: str | None,
    row_space: str | None,
    *,
    where: Sequence[Mapping[str, Any]] = (),
    weights: Mapping[str, Any] | None = None,
    limit: int = 0,
    seed: int = 0,
) -> Selection:
    """Rows of one or more captures to train on.

    where, weights: see `policylens.sae.filters`. limit: so many rows at most, drawn by seed; 0: all.
    Raises UserError where no row is left.
    """
    tables = [open_table(entry.capture, row_space) for entry in recorded]
    found = []
    for table, entry in zip(tables, recorded, strict=True):
        lookup = _lookup(table, entry, row_space)
        kept, numbers = _kept(table, lookup, where)
        found.append((numbers, None if weights is None else weighted(weights, lookup)[kept]))
    if weights is not None and not any(weight.any() for _, weight in found):
        raise UserError(f"{tables[0].folder}: `weights` give every row of the {SPLITS[TRAIN]!r} split 0; ask for less")
    numbers = _limited([numbers for numbers, _ in found], limit, seed)
    pieces = []
    for table, (every, weight), some in zip(tables, found, numbers, strict=True):
        target = None if output_site is None else table.array(output_site)
        if len(some):
            weight = None if weight is None else weight[np.searchsorted(every, some)]
            pieces.append(Piece(table.array(site), target, some, weight, f"{table.folder} at {site}"))
    return Selection(pieces)


def _kept(table: Table, lookup: Lookup, where: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool which rows are trained on, and their numbers."""
    kept = table.coordinate("split") == TRAIN
    if not kept.any():
        raise UserError(f"{table.folder}: no row is in the {SPLITS[TRAIN]!r} split; record more episodes")
    chosen = selected(where, lookup)
    if chosen is not None:
        kept = kept & chosen
        if not kept.any():
            raise UserError(f"{table.folder}: `where` leaves no row of the {SPLITS[TRAIN]!r} split; ask for less")
    return kept, np.flatnonzero(kept)


def _lookup(table: Table, entry: Recorded, row_space: str | None) -> Lookup:
    def lookup(name: str) -> np.ndarray:
        if "/" not in name:
            if name not in table.names:
                raise UserError(
                    f"{table.folder}: no array {name!r} to choose rows by; there are: {', '.join(table.names)}"
                )
            return table.coordinate(name)
        labelset, label = name.split("/", 1)
        if labelset not in entry.labels:
            raise UserError(f"{table.folder}: no label set {labelset!r} is known of its rows")
        values = open_table(entry.labels[labelset], row_space).coordinate(label)
        if len(values) != table.n_rows:
            raise UserError(f"{entry.labels[labelset]}: has {len(values)} rows, {table.folder} has {table.n_rows}")
        return values

    return lookup


def _limited(numbers: list[np.ndarray], limit: int, seed: int) -> list[np.ndarray]:
    total = sum(len(part) for part in numbers)
    if not limit or limit >= total:
        return numbers
    picks = np.sort(np.random.default_rng([seed, TRAIN]).choice(total, limit, replace=False))
    edges = np.cumsum([0, *(len(part) for part in numbers)])
    bounds = np.searchsorted(picks, edges)
    return [part[picks[a:b] - edge] for part, a, b, edge in zip(numbers, bounds, bounds[1:], edges, strict=False)]
