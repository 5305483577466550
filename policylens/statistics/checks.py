"""What every statistical function demands of its inputs, refused in one clear line."""

from __future__ import annotations

import numpy as np

from policylens.errors import UserError

ALTERNATIVES = ("two-sided", "greater", "less")


def finite(values: np.ndarray, name: str, dimensions: tuple[int, ...] = (1,)) -> np.ndarray:
    """`values` as a float64 array; refused when empty, of another number of dimensions, or not finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.ndim not in dimensions:
        wanted = " or ".join(str(d) for d in dimensions)
        raise UserError(f"{name}: expected {wanted} dimension(s), got shape {array.shape}")
    if array.size == 0:
        raise UserError(f"{name}: is empty (shape {array.shape})")
    array = array.astype(np.float64, copy=False)
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise UserError(f"{name}: {bad} of {array.size} values are NaN or infinite; drop these rows first")
    return array


def same_length(first: np.ndarray, second: np.ndarray, names: str) -> None:
    """Refuse two arrays whose leading axes differ. names: e.g. "values and clusters"."""
    if len(first) != len(second):
        raise UserError(f"{names}: lengths differ, {len(first)} and {len(second)}")


def open_unit_interval(number: float, name: str) -> None:
    """Refuse a number that is not strictly between 0 and 1."""
    if not 0 < number < 1:
        raise UserError(f"{name}: must lie strictly between 0 and 1, got {number}")


def count(number: int, name: str, minimum: int) -> None:
    """Refuse a count under its minimum."""
    if number < minimum:
        raise UserError(f"{name}: at least {minimum} needed, got {number}")


def alternative(name: str) -> None:
    """Refuse an unknown alternative hypothesis."""
    if name not in ALTERNATIVES:
        raise UserError(f"alternative: expected one of {', '.join(ALTERNATIVES)}, got {name!r}")
