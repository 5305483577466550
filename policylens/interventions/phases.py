"""In which phases of an episode do a latent's effects lie, and is that more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policylens.interventions.subject import Subject
from policylens.statistics.associations import association_null
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio
from policylens.statistics.nulls import p_values
from policylens.statistics.resampling import Resampling

SHIFTS = 999
"""Circular shifts of the null: p can be as small as .001."""


@dataclass(frozen=True)
class Phases:
    """codes: (n,) phase of each row, 0 to count - 1; rows stand episode by episode, in time order within each."""

    codes: np.ndarray
    count: int

    @property
    def masks(self) -> np.ndarray:
        """(count, n) whether a row is in a phase."""
        return self.codes == np.arange(self.count)[:, None]


def density_in_phases(subject: Subject, latents: np.ndarray, phases: Phases) -> np.ndarray:
    """Share of each phase's rows in which each latent is not 0 at any position, (k, phases); 0 in an empty phase."""
    rows = np.maximum(phases.masks.sum(1), 1)
    found = np.zeros((len(latents), phases.count))
    kept = subject.latents
    for place, latent in enumerate(latents):
        active = np.unique(kept.rows[kept.starts[latent] : kept.starts[latent + 1]])
        found[place] = np.bincount(phases.codes[active], minlength=phases.count) / rows
    return found


def sizes_in_phases(sizes: np.ndarray, phases: Phases, episodes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """How a latent's effects on one outcome spread over phases.

    sizes: (k, n), in each row the sum over units of |effect|. episodes: (n,) of the rows, ascending.

    size, size_low, size_high (k, phases): mean of `sizes` over the phase's rows, 95% interval over episodes.
    share, share_low, share_high (k, phases): share of the sum over all rows that lies in the phase.
    expected (k, phases): mean of that share when phases are shifted circularly within each episode, SHIFTS times.
    selectivity (k,): largest share - expected over phases. p (k,): how often the largest excess of a shifted labelling
    is as large, (1 + #) / (1 + SHIFTS); the largest of all phases, so that looking at all of them is accounted for.

    NaN where there is nothing to divide by, and for intervals that too few episodes carry.
    """
    sizes, masks = sizes.astype(np.float64), phases.masks
    grouped = Clusters.of(episodes)
    in_phase = np.stack([grouped.sums(sizes.T * mask[:, None]) for mask in masks], axis=2)  # (episodes, k, phases)
    rows = np.stack([grouped.sums(mask.astype(np.float64)) for mask in masks], axis=1)  # (episodes, phases)
    resampling = Resampling(seed)
    found: dict[str, np.ndarray] = {}
    total = in_phase.sum(2)
    for phase in range(phases.count):
        below = np.repeat(rows[:, phase : phase + 1], len(sizes), axis=1)
        for name, numbers in (("size", below), ("share", total)):
            estimate = bootstrap_ratio(in_phase[:, :, phase], numbers, resampling, undefined="nan")
            for suffix, values in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                found.setdefault(f"{name}{suffix}", np.full((len(sizes), phases.count), np.nan))[:, phase] = values
    return found | _selectivity(sizes, masks, episodes, found["share"], seed)


def _selectivity(
    sizes: np.ndarray, masks: np.ndarray, episodes: np.ndarray, share: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    expected = np.full(share.shape, np.nan)
    excess, null = np.full(share.shape, -np.inf), np.full((SHIFTS, len(sizes)), -np.inf)
    moves = sizes.any(1)
    for phase, mask in enumerate(masks):
        if mask.all() or not mask.any():
            expected[:, phase] = mask.mean()
            continue
        shares = _shifted_shares(sizes[moves], mask, episodes, seed)
        expected[moves, phase] = shares.mean(0)
        excess[moves, phase] = share[moves, phase] - shares.mean(0)
        null[:, moves] = np.maximum(null[:, moves], shares - shares.mean(0))
    selectivity = excess.max(1, initial=-np.inf)
    known = np.isfinite(selectivity)
    p = np.ones(len(sizes))
    if known.any():
        p[known] = p_values(selectivity[known], null[:, known], "greater")
    return {"expected": expected, "selectivity": np.where(known, selectivity, np.nan), "p": p}


def _shifted_shares(sizes: np.ndarray, mask: np.ndarray, episodes: np.ndarray, seed: int) -> np.ndarray:
    """(SHIFTS, k) share of each latent's sizes in the rows of a mask that is shifted circularly within episodes.

    A share is an affine function of the correlation of sizes with the mask, and shifts keep all else of it:
    sum(s m) = n mean(s) mean(m) + r |s - mean(s)| |m - mean(m)|.
    """
    label = mask.astype(np.float64)
    if np.all(np.ptp(sizes, axis=1) == 0):
        return np.full((SHIFTS, len(sizes)), label.mean())
    null = association_null(
        sizes.T, label, episodes, measure="pearson", scheme="circular", seed=seed, n_permutations=SHIFTS
    )
    spread = np.linalg.norm(sizes - sizes.mean(1, keepdims=True), axis=1) * np.linalg.norm(label - label.mean())
    return label.mean() + null.null * spread / sizes.sum(1)
