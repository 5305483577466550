"""Does the best latent of an input stay its best elsewhere? Chosen on validation episodes, scored on test episodes.

The latent with the largest |r| of many is largest partly by luck. So it is chosen on one split and scored on another,
with the sign it was chosen with, and beside it the best of the site's own units, chosen and scored in the same way. An
SAE usually has more latents than the site has units, and more candidates find more: the side with more candidates is
scored once more with as many as the other (the expected best of a random subset of that size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.correlations.measure import correlations
from policylens.correlations.sample import SIDES, Sample
from policylens.correlations.scoring import Pairs, Scorer
from policylens.statistics.auc import best_of_subset
from policylens.statistics.estimate import Estimate
from policylens.statistics.resampling import Resampling


@dataclass(frozen=True)
class HeldOut:
    """What is found. inputs: (k,) places of the inputs that could be chosen for: those that vary on both splits.

    chosen: side -> (k,) candidate. validation: side -> (k,) its r there. test: side -> its r on the test split, times
    the sign it was chosen with. difference: latents minus units, per input, on the same resamples. means: over these
    inputs, of the sides and of their difference: name -> estimate. candidates: side -> how many vary on validation.
    """

    inputs: np.ndarray
    chosen: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, Estimate]
    difference: Estimate
    means: dict[str, Estimate]
    candidates: dict[str, int]

    def record(self) -> dict[str, Any]:
        """Plain JSON values of what is not an array."""
        return {
            "candidates": self.candidates,
            "means": {name: estimate.record() for name, estimate in self.means.items()},
        }


def held_out(validation: Sample, test: Sample, resampling: Resampling) -> HeldOut | None:
    """Choose by Pearson's |r| on one split and score on the other; None where no input or candidate varies."""
    inputs = np.flatnonzero(_varies(validation.inputs) & _varies(test.inputs))
    found = {
        side: correlations(validation.inputs[:, inputs], values)["pearson"] for side, values in validation.sides.items()
    }
    alive = {side: np.flatnonzero(np.any(r != 0, axis=0)) for side, r in found.items()}
    if len(inputs) == 0 or any(len(own) == 0 for own in alive.values()):
        return None
    orders = {side: _order(found[side], alive[side]) for side in SIDES}
    scorer = Scorer(test, inputs, resampling)
    best = {side: scorer.pairs(side, order[:1], found[side]) for side, order in orders.items()}
    counts = {side: len(own) for side, own in alive.items()}
    return HeldOut(
        inputs,
        {side: order[0] for side, order in orders.items()},
        {side: np.take_along_axis(found[side].T, order[:1], 0)[0] for side, order in orders.items()},
        {side: scorer.estimates(own) for side, own in best.items()},
        scorer.difference(best["latents"], best["units"]),
        scorer.means(_means(scorer, orders, found, counts)),
        counts,
    )


def _means(scorer: Scorer, orders: Any, found: Any, counts: dict[str, int]) -> dict[str, tuple[Pairs, np.ndarray]]:
    """What means are taken of: both sides with all their candidates, and the larger with as many as the smaller."""
    sets = {side: (order[:1], np.ones(1)) for side, order in orders.items()}
    larger, smaller = sorted(SIDES, key=lambda side: -counts[side])
    shares = best_of_subset(counts[larger], counts[smaller])
    sets[f"{larger}_of_as_many"] = (orders[larger][: len(shares)], shares)
    return {
        name: (scorer.pairs(name.removesuffix("_of_as_many"), order, found[name.removesuffix("_of_as_many")]), shares)
        for name, (order, shares) in sets.items()
    }


def _varies(inputs: np.ndarray) -> np.ndarray:
    """(k,) whether an input has two values at least; NaN counts for none."""
    known = ~np.isnan(inputs)
    largest = np.where(known, inputs, -np.inf).max(0)
    return largest > np.where(known, inputs, np.inf).min(0)


def _order(r: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """(alive candidates, k): for each input all candidates, the largest |r| first; ties by number."""
    return alive[np.argsort(-np.abs(r[:, alive]).T, axis=0, kind="stable")]
