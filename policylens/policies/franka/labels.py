"""Ground truth about a step: where the hand and the drawer are, and how far the task has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.franka.family import LABELS
from policylens.policies.franka.layout import (
    DRAWER_VELOCITY,
    OBSERVATIONS,
    distance_to_handle,
    drawer_position,
    is_open,
)

PHASES = ("approach", "grasp", "pull", "done")
"""Names of the codes 0 to 3 of the label `phase`."""

PULLED = 0.01
"""The drawer is being pulled once it is open further than this (m)."""

Rows = Mapping[str, NDArray]


def _phase(rows: Rows) -> NDArray[np.int8]:
    """0 hand off the handle, 1 finger on it, 2 drawer ajar, 3 drawer open: the furthest that the state shows."""
    observations = _observations(rows)
    ajar = drawer_position(observations) > PULLED
    return np.where(is_open(observations), 3, np.where(ajar, 2, _touching(rows))).astype(np.int8)


def _touching(rows: Rows) -> NDArray[np.bool_]:
    return _array(rows, "finger_contact", (2,)).any(axis=1)


def _success(rows: Rows) -> NDArray[np.bool_]:
    """Whether the drawer is open at some step of the row's episode."""
    _, owner = np.unique(_array(rows, "episode", ()), return_inverse=True)
    return np.bincount(owner, is_open(_observations(rows)))[owner] > 0


def _observations(rows: Rows) -> NDArray[np.float32]:
    return _array(rows, "observations", (OBSERVATIONS,))


def _array(rows: Rows, name: str, shape: tuple[int, ...]) -> NDArray:
    if name not in rows:
        raise UserError(
            f"this label needs the source's array {name!r}, which it lacks; it has {', '.join(sorted(rows))}. "
            "Rollouts recorded here have it"
        )
    found = np.asarray(rows[name])
    if found.shape[1:] != shape:
        raise UserError(f"the source's array {name!r} has rows of shape {found.shape[1:]}, the label needs {shape}")
    return found


_COMPUTED: dict[str, Callable[[Rows], NDArray]] = {
    "phase": _phase,
    "distance_to_handle": lambda rows: distance_to_handle(_observations(rows)),
    "finger_contact": _touching,
    "drawer_position": lambda rows: drawer_position(_observations(rows)),
    "drawer_velocity": lambda rows: _observations(rows)[:, DRAWER_VELOCITY],
    "success": _success,
}
assert _COMPUTED.keys() == LABELS.keys()


def label(rows: Rows, names: Sequence[str]) -> dict[str, NDArray]:
    """Labels of a source's rows, by name; see LABELS in family.py for what each is and in which unit.

    rows: `observations` float32 (n, 23); for phase and finger_contact also `finger_contact` bool (n, 2); for success
    also `episode`. Every label is (n,): int8 for phase, bool for finger_contact and success, else float32.
    Raises UserError for an unknown label and for an array that the source lacks.
    """
    if unknown := sorted(set(names) - _COMPUTED.keys()):
        raise UserError(f"unknown Franka labels {', '.join(unknown)}; there are {', '.join(_COMPUTED)}")
    return {name: _COMPUTED[name](rows) for name in names}
