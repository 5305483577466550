"""Causal profiles: what each latent's change does to everything, as a point that has neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def profiles(effects: Mapping[str, np.ndarray], scales: Mapping[str, float] | None = None) -> np.ndarray:
    """Unit vectors (k, units of all outcomes): the mean effects of each latent, float64.

    effects: outcome -> (k, units). Each outcome is divided by the root of its sum of squares over latents and units, so
    that all outcomes weigh the same whatever their units and however many they have. Then each latent's vector is
    brought to length 1: two latents that do the same, one more often or more strongly, are the same point; one of
    opposite sign is the opposite point. A latent that does nothing stays at 0.

    scales: those divisors, where they are not to be taken from these effects.
    """
    scales = scales_of(effects) if scales is None else scales
    whole = np.concatenate([values / (scales[name] or 1.0) for name, values in effects.items()], axis=1)
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    return np.divide(whole, lengths, out=np.zeros_like(whole), where=lengths > 0)


def scales_of(effects: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Outcome -> root of the sum of squares."""
    return {name: float(np.linalg.norm(values.astype(np.float64))) for name, values in effects.items()}


def half_effects(
    folds: Mapping[str, np.ndarray], fold_rows: Sequence[int], half: Sequence[int]
) -> dict[str, np.ndarray]:
    """Outcome -> mean effects (k, units) over the rows of some folds. folds: outcome -> (k, folds, units) means."""
    rows = np.asarray(fold_rows, np.float64)[list(half)]
    return {name: np.einsum("kfu,f->ku", values[:, list(half)], rows / rows.sum()) for name, values in folds.items()}


def halvings(fold_rows: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Ways to put the folds into two halves of as many folds; none where a fold has no rows."""
    count = len(fold_rows)
    if count < 2 or count % 2 or min(fold_rows) == 0:
        return []
    whole = set(range(count))
    firsts = [half for half in _subsets(count, count // 2) if 0 in half]
    return [(list(half), sorted(whole - set(half))) for half in firsts]


def _subsets(count: int, size: int) -> list[tuple[int, ...]]:
    from itertools import combinations

    return list(combinations(range(count), size))
