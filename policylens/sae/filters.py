"""Choosing and weighting rows by what is known of them: a label, a phase, the kind of a token.

A condition names one array and says which of its values count:
    {array: step, at_least: 4}        {array: board/cells_mine, element: 14, equals: true}
    {array: board/empties, one_of: [10, 11, 12]}
A weighting names an array and gives its values a weight:
    {array: board/empties, weights: {"10": 2.0}, otherwise: 1.0}
Arrays are the capture's own coordinates, or "labelset/label" of its source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from policylens.errors import UserError

Lookup = Callable[[str], np.ndarray]


def selected(conditions: Sequence[Mapping[str, Any]], lookup: Lookup) -> np.ndarray | None:
    """(n,) bool, rows for which all conditions hold, or None if there are none. lookup: name -> (n, ...) array."""
    kept = None
    for condition in conditions:
        holds = _holds(condition, _values(condition, lookup))
        kept = holds if kept is None else kept & holds
    return kept


def weighted(weighting: Mapping[str, Any], lookup: Lookup) -> np.ndarray:
    """(n,) float64 weight of every row."""
    values = _values(weighting, lookup)
    weights = np.full(len(values), float(weighting.get("otherwise", 1.0)))
    for value, weight in weighting["weights"].items():
        weights[values == _number(value, weighting["array"])] = float(weight)
    return weights


def _values(entry: Mapping[str, Any], lookup: Lookup) -> np.ndarray:
    values = lookup(entry["array"])
    if "element" in entry:
        values = values.reshape(len(values), -1)
        if entry["element"] >= values.shape[1]:
            raise UserError(
                f"`where` or `weights`: {entry['array']!r} has {values.shape[1]} elements, {entry['element']} was "
                "asked for; they count from 0"
            )
        return values[:, entry["element"]]
    if values.ndim > 1:
        raise UserError(
            f"`where` or `weights`: {entry['array']!r} holds {values[0].size} values per row; say which, as element: 0"
        )
    return values


def _holds(condition: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    holds = np.ones(len(values), dtype=bool)
    if "equals" in condition:
        holds &= values == condition["equals"]
    if "one_of" in condition:
        holds &= np.isin(values, condition["one_of"])
    if "at_least" in condition:
        holds &= values >= condition["at_least"]
    if "at_most" in condition:
        holds &= values <= condition["at_most"]
    return holds


def _number(text: str, array: str) -> float:
    try:
        return float({"true": "1", "false": "0"}.get(str(text).lower(), text))
    except ValueError:
        raise UserError(f"the weights of {array!r} are keyed by its values, which are numbers, not {text!r}") from None
