"""Points without clusters that are like given ones in everything else: what a clustering has to beat."""

from __future__ import annotations

import numpy as np


def single_cloud(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many points (n, d) from a normal distribution with the mean and the covariance of the given ones.

    Each is a random mixture of the points' deviations from their mean, so that no covariance is ever factorised.
    """
    mean = points.mean(0)
    deviations = points - mean
    mixture = rng.standard_normal((len(points), len(points))) / np.sqrt(len(points))
    return mixture @ deviations + mean


def with_norms(points: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Points (n, d) brought to given lengths (n,); one at the origin stays there."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points * (norms[:, None] / np.where(lengths > 0, lengths, 1.0))
