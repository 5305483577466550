"""The Pareto front of sparsity and quality: the members that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(cost: Sequence[float], quality: Sequence[float]) -> np.ndarray:
    """(n,) True where no other point is as cheap and as good, and better in one of the two.

    cost: (n,) less is better. quality: (n,) more is better. Points that are not finite stand on no front. Equal points
    stand on it together.
    """
    costs, qualities = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    known = np.isfinite(costs) & np.isfinite(qualities)
    front = np.zeros(len(costs), dtype=bool)
    for i in np.flatnonzero(known):
        as_good = known & (costs <= costs[i]) & (qualities >= qualities[i])
        front[i] = not (as_good & ((costs < costs[i]) | (qualities > qualities[i]))).any()
    return front
