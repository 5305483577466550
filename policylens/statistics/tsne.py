"""t-SNE: points in the plane so that near ones stay near. Exact and deterministic, for some thousands of points.

van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 9 (2008). Started from the two main axes, as advised by
Kobak and Berens, "The art of using t-SNE for single-cell transcriptomics", Nature Communications 10 (2019).
"""

from __future__ import annotations

import numpy as np

from policylens.statistics import checks

ITERATIONS = 750
EXAGGERATED = 250
"""Iterations in which neighbours attract each other EXAGGERATION times as strongly."""
EXAGGERATION = 12.0
TOLERANCE = 1e-5
BISECTIONS = 60
TINY = 1e-12


def t_sne(points: np.ndarray, perplexity: float = 30.0) -> np.ndarray:
    """(n, 2) places of points (n, d), n at least 4. perplexity: effective number of neighbours, at most (n - 1) / 3.

    Memory and time per iteration go with n squared. Distances between groups, and their sizes, mean nothing.
    """
    checks.count(len(points), "points to place", 4)
    perplexity = min(perplexity, (len(points) - 1) / 3)
    wanted = neighbourhoods(points, perplexity)
    wanted = (wanted + wanted.T) / (2 * len(points))
    places = _start(points)
    rate = max(len(points) / EXAGGERATION, 50.0)
    step, gains = np.zeros_like(places), np.ones_like(places)
    for iteration in range(ITERATIONS):
        early = iteration < EXAGGERATED
        gradient = _gradient(places, wanted * (EXAGGERATION if early else 1.0))
        gains = np.where(np.sign(gradient) == np.sign(step), gains * 0.8, gains + 0.2).clip(0.01)
        step = (0.5 if early else 0.8) * step - rate * gains * gradient
        places = places + step
        places -= places.mean(0)
    return places


def neighbourhoods(points: np.ndarray, perplexity: float) -> np.ndarray:
    """(n, n): row i is how point i shares out one neighbour among the others, with the given perplexity exp(entropy).

    Normal weights whose width is found by bisection, row by row.
    """
    points = np.asarray(points, np.float64)
    squares = (points**2).sum(1)
    distances = np.maximum(squares[:, None] - 2 * points @ points.T + squares, 0.0)
    np.fill_diagonal(distances, np.inf)
    distances = distances - distances.min(1, keepdims=True)  # a factor per row that cancels
    typical = np.where(np.isfinite(distances), distances, 0.0).sum(1, keepdims=True) / (len(points) - 1)
    low, high = np.zeros((len(points), 1)), np.full((len(points), 1), np.inf)
    precision = 1 / np.maximum(typical, TINY)
    for _ in range(BISECTIONS):
        shares = np.exp(-distances * precision)
        shares /= shares.sum(1, keepdims=True)
        entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1, keepdims=True)
        excess = entropy - np.log(perplexity)
        if (np.abs(excess) < TOLERANCE).all():
            break
        low, high = np.where(excess > 0, precision, low), np.where(excess > 0, high, precision)
        precision = np.where(np.isinf(high), 2 * precision, (low + high) / 2)
    return shares


def _start(points: np.ndarray) -> np.ndarray:
    """The points on their two main axes, small; each axis points where its largest coordinate does."""
    centred = points - points.mean(0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(points), 2))
    count = min(2, len(values))
    places[:, :count] = left[:, :count] * values[:count]
    largest = np.abs(places).argmax(0)
    signs = np.where(places[largest, [0, 1]] < 0, -1.0, 1.0)
    return places * signs * 1e-4 / max(float(places[:, 0].std()), TINY)


def _gradient(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of the Kullback-Leibler divergence from `wanted` (n, n) to the places' own shares: equation 5 of the paper."""
    squares = (places**2).sum(1)
    weights = 1 / (1 + np.maximum(squares[:, None] - 2 * places @ places.T + squares, 0.0))
    np.fill_diagonal(weights, 0.0)
    pulls = (wanted - weights / weights.sum()) * weights
    return 4 * (pulls.sum(1, keepdims=True) * places - pulls @ places)
