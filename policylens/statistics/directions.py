"""Random control directions: what a causal claim about a feature's direction has to beat.

Compare with isotropic directions (any direction of the space) and with covariance-matched ones (directions in
which the site varies); the latter are the harder control. Every comparison is at equal norm per row.
"""

from __future__ import annotations

import numpy as np

from policylens.errors import UserError
from policylens.statistics import checks

MINIMUM_CONTROLS = 200
"""Fewer random directions cannot place an effect within half a percent."""

CONTROLS = ("isotropic", "covariance")
"""Kinds of random directions that an effect is compared with."""

_ENTRIES_IN_MEMORY = 1 << 22


def isotropic(n: int, d: int, seed: int) -> np.ndarray:
    """n unit vectors, uniform on the sphere in d dimensions: float64 (n, d)."""
    checks.count(n, "n directions", 1)
    checks.count(d, "dimensions", 1)
    return _unit(np.random.default_rng(seed).standard_normal((n, d)))


def random_directions(kind: str, activations: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n unit vectors (n, d) of one of CONTROLS. activations: (..., d) of the site; "covariance": drawn as they vary."""
    rows = activations.reshape(-1, activations.shape[-1])
    if kind == "isotropic":
        return isotropic(n, rows.shape[1], seed)
    return drawn_with(covariance_factor(covariance_of(rows)), n, seed)


def covariance_of(activations: np.ndarray) -> np.ndarray:
    """Covariance (d, d) of activations (m, d) of any float type, accumulated in float64, divided by m - 1."""
    activations = np.asarray(activations)
    if activations.ndim != 2 or len(activations) < 2:
        raise UserError(f"activations: expected (rows, d) with at least 2 rows, got {activations.shape}")
    block = max(1, _ENTRIES_IN_MEMORY // activations.shape[1])
    starts = range(0, len(activations), block)
    parts = (checks.finite(activations[start : start + block], "activations", (2,)) for start in starts)
    mean = sum(part.sum(axis=0) for part in parts) / len(activations)
    centred = (activations[start : start + block] - mean for start in starts)
    return sum(part.T @ part for part in centred) / (len(activations) - 1)


def covariance_matched(n: int, covariance: np.ndarray, seed: int) -> np.ndarray:
    """n unit vectors, normal draws from N(0, covariance) scaled to norm 1: float64 (n, d).

    covariance: (d, d), symmetric and positive semidefinite, e.g. :func:`covariance_of` the site's
        activations; a singular one confines the directions to its range.
    """
    return drawn_with(covariance_factor(covariance), n, seed)


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """A matrix (d, d) that turns standard normal rows into draws from N(0, covariance): for many draws of one site."""
    matrix = checks.finite(covariance, "covariance", (2,))
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        raise UserError(f"covariance: expected a symmetric square matrix, got shape {matrix.shape}")
    variances, axes = np.linalg.eigh(matrix)
    if variances[-1] <= 0 or variances[0] < -1e-6 * variances[-1]:
        raise UserError(f"covariance: not positive semidefinite (eigenvalues {variances[0]:.3g}..{variances[-1]:.3g})")
    # Variances that are nothing but rounding would let the directions leak out of the range.
    variances = np.where(variances > len(matrix) * np.finfo(float).eps * variances[-1], variances, 0.0)
    return np.sqrt(variances)[:, None] * axes.T


def drawn_with(factor: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n unit vectors (n, d) as :func:`covariance_matched` draws them. factor: of :func:`covariance_factor`."""
    checks.count(n, "n directions", 1)
    return _unit(np.random.default_rng(seed).standard_normal((len(factor), n)).T @ factor)


def equal_norm(directions: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Directions scaled to given norms, e.g. to the norms of a feature's own contribution, row by row.

    directions: (..., d), none of them zero.
    norms: at least 0, broadcast against the leading axes; the result has the broadcast shape and d.
        Directions (n, d) with norms (n,) give (n, d); `directions[:, None]` (n, 1, d) with the norms (rows,)
        of an effect give a perturbation of every row by every control: (n, rows, d).
    """
    vectors = checks.finite(directions, "directions", tuple(range(1, 9)))
    sizes = checks.finite(norms, "norms", tuple(range(9)))
    if sizes.min() < 0:
        raise UserError(f"norms: must be at least 0, got {sizes.min():g}")
    try:
        np.broadcast_shapes(vectors.shape[:-1], sizes.shape)
    except ValueError:
        raise UserError(f"norms: shape {sizes.shape} does not fit directions {vectors.shape}") from None
    return _unit(vectors) * sizes[..., None]


def percentile(
    effect: float | np.ndarray, control_effects: np.ndarray, minimum: int = MINIMUM_CONTROLS
) -> float | np.ndarray:
    """Percentile of an effect among those of control directions, strictly between 0 and 100.

    effect: number or (k,).
    control_effects: (n,) shared by all effects, or (n, k) one column each.
    minimum: refuse fewer controls than this.

    The effect is ranked among the n + 1, itself included, ties counted half:
    100 (less + equal / 2 + 1/2) / (n + 1). Negating all effects turns p into 100 - p.
    """
    values = checks.finite(effect, "effect", (0, 1))
    controls = checks.finite(control_effects, "control effects", (1, 2))
    checks.count(len(controls), "control directions", minimum)
    if controls.ndim == 1:
        controls = controls.reshape(-1, *(1,) * values.ndim)
    elif controls.shape[1:] != values.shape:
        raise UserError(f"control effects: shape {controls.shape} does not fit effects {values.shape}")
    less = np.count_nonzero(controls < values, axis=0)
    equal = np.count_nonzero(controls == values, axis=0)
    result = 100 * (less + equal / 2 + 0.5) / (len(controls) + 1)
    return result if values.ndim else float(result)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if np.any(norms == 0):
        raise UserError(f"directions: {np.count_nonzero(norms == 0)} of {norms.size} are zero vectors")
    return vectors / norms
