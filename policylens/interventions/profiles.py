"""Causal profiles: what more of each latent does to everything, as a point that has neighbours.

A profile is made of mean effects times the sign of the change: of a zero-ablation the mean effects with their sign
turned round; of a resampling, whose plain mean effects are 0 to first order (a latent is raised as often as lowered),
what raising does. KL is no part of it: it says how much changes, not what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from policylens.interventions.outcomes import KL


def profiles(effects: Mapping[str, np.ndarray], scales: Mapping[str, float] | None = None) -> np.ndarray:
    """Unit vectors (k, units of all outcomes): the effects of each latent, float64.

    effects: outcome -> (k, units). Each outcome is divided by the median over latents of the length of its effects, so
    that all outcomes weigh the same for a usual latent, whatever their units and however many they have. Then each
    latent's vector is brought to length 1: two latents that do the same, one more often or more strongly, are the same
    point; one of opposite sign is the opposite point. A latent that does nothing stays at 0.

    scales: those divisors, where they are not to be taken from these effects.
    """
    scales = scales_of(effects) if scales is None else scales
    whole = np.concatenate([values / (scales[name] or 1.0) for name, values in effects.items()], axis=1)
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    return np.divide(whole, lengths, out=np.zeros_like(whole), where=lengths > 0)


def scales_of(effects: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Outcome -> median length of the effects of the latents that have any; 0 where none has."""
    lengths = {name: np.linalg.norm(values.astype(np.float64), axis=1) for name, values in effects.items()}
    return {name: float(np.median(own[own > 0])) if own.any() else 0.0 for name, own in lengths.items()}


def raised_effects(found: Mapping[str, np.ndarray], outcomes: Sequence[str]) -> dict[str, np.ndarray]:
    """Outcome -> (k, folds, units) from a mode's arrays of a store: effects of more of each latent, fold by fold."""
    return {name: found[f"{name}_raised"].astype(np.float64) for name in outcomes if name != KL}


def half_effects(
    folds: Mapping[str, np.ndarray], fold_rows: Sequence[int], half: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Outcome -> effects (k, units) over the rows of some folds, or all. folds: outcome -> (k, folds, units) means."""
    half = list(range(len(fold_rows)) if half is None else half)
    rows = np.asarray(fold_rows, np.float64)[half]
    return {name: np.einsum("kfu,f->ku", values[:, half], rows / rows.sum()) for name, values in folds.items()}


def halvings(fold_rows: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Ways to put the folds into two halves of as many folds; none where a fold has no rows."""
    count = len(fold_rows)
    if count < 2 or count % 2 or min(fold_rows) == 0:
        return []
    firsts = [half for half in combinations(range(count), count // 2) if 0 in half]
    return [(list(half), sorted(set(range(count)) - set(half))) for half in firsts]
