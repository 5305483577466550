"""Many features tested at once: p-values adjusted for the search.

:func:`max_statistic` controls the family-wise error rate (any false finding) and uses the features'
dependence; :func:`benjamini_hochberg` controls the false discovery rate (the share of findings that are
false).
"""

from __future__ import annotations

import numpy as np

from policylens.errors import UserError
from policylens.statistics import checks


def max_statistic(
    observed: np.ndarray,
    null: np.ndarray,
    *,
    alternative: str = "two-sided",
    studentise: bool = True,
    step_down: bool = False,
) -> np.ndarray:
    """Family-wise adjusted p-values from the largest statistic of each permutation: (k,).

    observed: (k,).
    null: (permutations, k); a row must come from one rearrangement of the labels, shared by all features.
    alternative: "greater", "less" or "two-sided" (distance from the null's mean).
    studentise: divide by each feature's spread over permutations, so that features with a wide null do not
        set the bar for all others; mean and spread include the observed row, which keeps the test exact.
    step_down: compare each feature with the maximum over itself and those less extreme (step-down maxT):
        never less powerful, still strongly controlled under subset pivotality.

    Westfall and Young, "Resampling-based multiple testing", 1993, with the +1 convention.
    """
    checks.alternative(alternative)
    values = checks.finite(observed, "observed statistics")
    draws = checks.finite(null, "null distribution", (2,))
    checks.same_length(values, draws[0], "observed statistics and columns of the null")
    scores = _scores(np.concatenate([values[None], draws]), alternative, studentise)
    if not step_down:
        return _share_at_least(scores[0], scores[1:].max(axis=1)[:, None])
    ascending = np.argsort(scores[0], kind="stable")
    largest = np.maximum.accumulate(scores[1:, ascending], axis=1)
    adjusted = np.empty(len(values))
    raw = _share_at_least(scores[0, ascending], largest)
    # Going down from the most extreme, no feature may look more significant than the one before it.
    adjusted[ascending] = np.maximum.accumulate(raw[::-1])[::-1]
    return adjusted


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values (k,): reject those at most q to keep the expected share of false discoveries at q.

    Benjamini and Hochberg, JRSS B 57 (1995). Valid for independent and positively dependent tests.
    """
    p = _checked(p_values)
    return _step_up(p, 1.0)


def benjamini_yekutieli(p_values: np.ndarray) -> np.ndarray:
    """The same under any dependence, larger by 1 + 1/2 + ... + 1/k: Annals of Statistics 29 (2001)."""
    p = _checked(p_values)
    return _step_up(p, float((1 / np.arange(1, len(p) + 1)).sum()))


def _scores(statistics: np.ndarray, alternative: str, studentise: bool) -> np.ndarray:
    """Statistics (1 + permutations, k) as numbers that are larger, the more extreme."""
    # Centred on one's own null mean: rearrangements need not leave an association of 0.
    scores = statistics - statistics.mean(axis=0)
    if studentise:
        scale = np.abs(statistics).max(axis=0)
        spread = scores.std(axis=0)
        varies = spread > 1e-12 * scale
        scores = np.divide(scores, spread, out=np.zeros_like(scores), where=varies)
    return {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative](scores)


def _share_at_least(scores: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """(1 + bars at least the score) / (1 + bars): (k,). Equal up to rounding counts as at least."""
    slack = 1e-10 * np.abs(bars).max(axis=0)
    return (1 + np.count_nonzero(bars >= scores - slack, axis=0)) / (1 + len(bars))


def _step_up(p: np.ndarray, factor: float) -> np.ndarray:
    order = np.argsort(p, kind="stable")
    scaled = p[order] * factor * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _checked(p_values: np.ndarray) -> np.ndarray:
    p = checks.finite(p_values, "p-values")
    if p.min() < 0 or p.max() > 1:
        raise UserError(f"p-values: must lie in 0..1, got {p.min():g}..{p.max():g}")
    return p
