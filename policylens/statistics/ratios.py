"""The ratio of two positive quantities measured in pairs: few pairs, so Student's t on the logarithms."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from policylens.errors import UserError
from policylens.statistics import checks
from policylens.statistics.estimate import Estimate


def paired_ratio(above: np.ndarray, below: np.ndarray, level: float = 0.95, unit: str = "seed") -> Estimate:
    """Geometric mean of above / below over pairs, with the t interval of the mean logarithm.

    above, below: (n,) positive numbers, pair by pair: rates of two programs in the same round, at least two pairs.

    Exact where the logarithms of the ratios are independent and normal. With three pairs it is wide (t = 4.3), as it
    has to be; the bootstrap of three pairs could not reach beyond the smallest and the largest of them.
    """
    checks.open_unit_interval(level, "level")
    above, below = checks.finite(above, "above"), checks.finite(below, "below")
    checks.same_length(above, below, "above and below")
    checks.count(len(above), "n pairs", 2)
    if np.any(above <= 0) or np.any(below <= 0):
        raise UserError("above and below: a ratio of logarithms needs positive numbers")
    logs = np.log(above / below)
    half = float(stdtrit(len(logs) - 1, (1 + level) / 2)) * logs.std(ddof=1) / np.sqrt(len(logs))
    value, low, high = (float(np.exp(logs.mean() + shift)) for shift in (0.0, -half, half))
    return Estimate(value, low, high, level, len(logs), len(logs), unit)
