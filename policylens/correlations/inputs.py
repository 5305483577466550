"""The inputs of a study: numbers of the observations and labels that a reader understands, as columns over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.policies.inputs import Input, unnamed
from policylens.policies.registry import family
from policylens.stores.tables import Table

MOST = 2048
"""So many inputs are correlated one by one; images have more."""
NO_LABELS = ("episode", "step")


@dataclass(frozen=True)
class Found:
    """Inputs and where they are read. label: whether the input is one of a label set."""

    input: Input
    table: Table
    label: bool

    def record(self) -> dict[str, Any]:
        """What is said of it in files."""
        return {"name": self.input.name, "unit": self.input.unit, "label": self.label}


def inputs_of(record: Mapping[str, Any], source: Table, labels: Table | None) -> list[Found]:
    """All inputs of a policy and, where given, all numbers of a label set of the same rows.

    record: policy.json. A family that names no inputs has all numbers of its observations, as "name[place]". Labels are
    in the unit that their description says. Raises UserError if there are none, or too many.
    """
    manifest = family(record["family"])
    named = manifest.inputs(record) or _unnamed(source, manifest.observations(record))
    found = [Found(one, source, False) for one in named]
    if labels is not None:
        names = [name for name in labels.names if name not in NO_LABELS]
        found += [Found(one, labels, True) for one in _unnamed(labels, names)]
    if not found:
        raise UserError(f"{source.folder}: its policy has no observations that could be inputs; name labels")
    if len(found) > MOST:
        raise UserError(
            f"{source.folder}: {len(found)} inputs are more than {MOST}, too many to correlate one by one; let the "
            f"family {record['family']!r} name its inputs (Family.inputs), or choose fewer labels"
        )
    return found


def read_inputs(found: Sequence[Found], rows: np.ndarray) -> np.ndarray:
    """Values of all inputs at some rows, float64 (n, k); NaN where not known. UserError if one is infinite."""
    arrays: dict[tuple[bool, str], np.ndarray] = {}
    values = np.empty((len(rows), len(found)))
    for place, one in enumerate(found):
        key = (one.label, one.input.array)
        if key not in arrays:
            arrays[key] = one.table.array(one.input.array).read(rows)
        values[:, place] = one.input.of({one.input.array: arrays[key]})
    bad = np.isinf(values).any(0)
    if bad.any():
        name = found[int(bad.argmax())].input.name
        raise UserError(f"input {name!r}: has infinite values in these rows; repair the source or its labels")
    return values


def _unnamed(table: Table, names: Sequence[str]) -> list[Input]:
    return [one for name in names for one in unnamed(name, table.array(name).shape[1:])]
