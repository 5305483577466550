"""A number with its interval and what it rests on: the form in which every analysis reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Estimate:
    """A point estimate and its confidence interval.

    value, low, high: floats, or float64 arrays (k,) for k quantities estimated from the same clusters; in the
        units of the statistic. NaN bounds: the interval is not defined.
    level: coverage, e.g. 0.95.
    n_rows, n_clusters: rows seen and independent units resampled.
    unit: what a cluster is ("episode", "seed", "prompt").
    """

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    level: float
    n_rows: int
    n_clusters: int
    unit: str

    def __getitem__(self, index: int) -> Estimate:
        """The estimate of one of the k quantities."""
        bounds = (float(np.asarray(part)[index]) for part in (self.value, self.low, self.high))
        return Estimate(*bounds, self.level, self.n_rows, self.n_clusters, self.unit)

    def __str__(self) -> str:
        """One line for people, e.g. `0.53 [0.42, 0.64] (95%, 120 episodes, 4000 rows)`."""
        basis = f"({100 * self.level:g}%, {self.n_clusters} {self.unit}s, {self.n_rows} rows)"
        if np.ndim(self.value):
            return f"{np.size(self.value)} estimates {basis}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] {basis}"

    def record(self) -> dict[str, object]:
        """Plain JSON values; undefined numbers become null, since JSON has no NaN."""
        parts = {name: _plain(getattr(self, name)) for name in ("value", "low", "high")}
        basis = {"n_rows": self.n_rows, "n_clusters": self.n_clusters, "unit": self.unit}
        return {**parts, "level": self.level, **basis}


def _plain(part: float | np.ndarray) -> object:
    if np.ndim(part):
        return [_plain(item) for item in part]
    return float(part) if np.isfinite(part) else None
