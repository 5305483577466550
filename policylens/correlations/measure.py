"""Pearson's and Spearman's correlation of every input with every column, where an input may be unknown in some rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from policylens.correlations.columns import Columns, Values, columns_of, ranked, standardised

MEASURES = ("pearson", "spearman")


class Group(NamedTuple):
    """Inputs that are known in the same rows. places: of the inputs. rows: (n,) bool."""

    places: np.ndarray
    rows: np.ndarray


def groups_of(inputs: np.ndarray) -> list[Group]:
    """Inputs (n, k) by the rows in which they are not NaN."""
    known = ~np.isnan(inputs)
    by_rows: dict[bytes, list[int]] = {}
    for place in range(inputs.shape[1]):
        by_rows.setdefault(np.packbits(known[:, place]).tobytes(), []).append(place)
    return [Group(np.array(places), known[:, places[0]]) for places in by_rows.values()]


class Pair(NamedTuple):
    """Inputs and columns over the same rows, ready for one measure. inputs: standardised (n, k)."""

    inputs: np.ndarray
    columns: Columns

    @property
    def correlations(self) -> np.ndarray:
        """(k, m)."""
        return self.columns.correlations(self.inputs)


def prepared(inputs: np.ndarray, values: Values, group: Group) -> Iterator[tuple[str, Pair]]:
    """Each measure with the inputs of a group and the columns, in the group's rows."""
    own, columns = inputs[np.ix_(group.rows, group.places)], _rows(values, group.rows)
    yield "pearson", Pair(standardised(own), columns_of(columns))
    yield "spearman", Pair(standardised(ranked(own)), columns_of(ranked(columns)))


def correlations(inputs: np.ndarray, values: Values) -> dict[str, np.ndarray]:
    """Measure -> (k, m) correlations of inputs (n, k) with columns (n, m).

    Rows in which an input is NaN are left out for this input alone, from the ranks too. A constant input or column has
    correlation 0. Equal to scipy.stats.pearsonr and spearmanr elsewhere.
    """
    found = {measure: np.zeros((inputs.shape[1], values.shape[1])) for measure in MEASURES}
    for group in groups_of(inputs):
        if group.rows.sum() > 1:
            for measure, pair in prepared(inputs, values, group):
                found[measure][group.places] = pair.correlations
    return found


def _rows(values: Values, rows: np.ndarray) -> Values:
    """Some rows of dense or sparse columns, without a copy where these are all."""
    if rows.all():
        return values
    return values[rows] if isinstance(values, np.ndarray) else values.tocsr()[rows].tocsc()
