"""Which latents tell two concepts apart, beside what rearranged episodes give."""

from __future__ import annotations

from typing import Any

import numpy as np

from policylens.directions.cells import LATENT, Cells
from policylens.directions.weights import contrast
from policylens.statistics.correction import max_statistic
from policylens.statistics.nulls import p_values

NUMBERS_AT_ONCE = 1 << 25
"""Of the null of all latents together: fewer permutations are taken where there would be more."""


def ranked(
    cells: Cells, decoder_norms: np.ndarray, active: np.ndarray, drawn: np.ndarray | None, top: int
) -> list[dict[str, Any]]:
    """The `top` latents by |difference| times decoder norm, the largest first (ties by number).

    decoder_norms: (m,). active: (m,) rows in which each is not 0. drawn: rearranged labels (draws, c), or None. p is
    two-sided; adjusted_p by the largest (studentised) difference of any latent in each rearrangement.
    """
    means = {side: _mean(cells, cells.positive == side) for side in (True, False)}
    difference = means[True] - means[False]
    size = np.abs(difference) * decoder_norms
    alive = np.flatnonzero(active > 0)
    order = alive[np.argsort(-size[alive], kind="stable")][:top]
    p, adjusted = _chances(cells, difference, alive, drawn)
    total = cells.count.sum()
    return [
        {
            "latent": int(latent),
            "difference": float(difference[latent]),
            "positive_mean": float(means[True][latent]),
            "negative_mean": float(means[False][latent]),
            "decoder_norm": float(decoder_norms[latent]),
            "density": float(active[latent] / total),
            "p": p.get(int(latent)),
            "adjusted_p": adjusted.get(int(latent)),
        }
        for latent in order
    ]


def _mean(cells: Cells, mine: np.ndarray) -> np.ndarray:
    return cells.sums[LATENT][mine].sum(0) / cells.count[mine].sum()


def _chances(
    cells: Cells, difference: np.ndarray, alive: np.ndarray, drawn: np.ndarray | None
) -> tuple[dict[int, float], dict[int, float]]:
    """p and adjusted p by latent; empty without rearrangements."""
    if drawn is None or len(alive) == 0:
        return {}, {}
    null = contrast(cells, drawn[: permutations_of(len(alive), len(drawn))]) @ cells.sums[LATENT][:, alive]
    observed = difference[alive]
    centre = (observed + null.sum(0)) / (1 + len(null))  # as the maximum statistic centres
    alone = p_values(np.abs(observed - centre), np.abs(null - centre), "greater")
    found = alone, max_statistic(observed, null)
    return tuple(dict(zip(alive.tolist(), map(float, values), strict=True)) for values in found)


def permutations_of(latents: int, wanted: int) -> int:
    """How many rearrangements are taken of so many latents."""
    return min(wanted, max(200, NUMBERS_AT_ONCE // max(1, latents)))
