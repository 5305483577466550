"""Could it be chance? Inputs shifted in time within their episodes, and correlated with the same latents again.

A shift keeps how an input and a latent each vary in time, and breaks which moment of the one meets which of the other.
Every draw shifts all inputs alike, by one number of steps per episode.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policylens.correlations.measure import Pair
from policylens.statistics.clusters import Clusters
from policylens.statistics.exchanges import MINIMUM_ARRANGEMENTS, CircularShifts
from policylens.statistics.nulls import p_values

AT_ONCE = 1 << 22
"""Numbers of a null that is held in memory at once."""
_DECIMALS = 12


class Null(NamedTuple):
    """What the shifts say of k inputs and m columns.

    p: (k, m) two-sided, of each pair alone. adjusted_p: (k, m) share of the draws in which any column's |r| with the
    input reaches this one's (the observed arrangement counted among them): family-wise over the columns. largest:
    (draws, k) the largest |r| of any column. p and adjusted_p are NaN for inputs that no shift changes.
    """

    p: np.ndarray
    adjusted_p: np.ndarray
    largest: np.ndarray


def arrangements(lengths: np.ndarray) -> float:
    """log10 of how many different shifts there are of episodes of such lengths."""
    return float(np.log10(lengths).sum())


def enough_shifts(lengths: np.ndarray) -> bool:
    """Whether a p-value of .05 could come out at all."""
    return len(lengths) > 1 and arrangements(lengths) >= np.log10(MINIMUM_ARRANGEMENTS) - 1e-9


def draws_of(episodes: np.ndarray, shifts: int, seed: int) -> CircularShifts:
    """Random shifts of rows that stand episode by episode, each in time order. episodes: (n,) ascending."""
    return CircularShifts(Clusters.of(episodes), shifts, seed)


def shift_null(pair: Pair, draws: CircularShifts) -> Null:
    """The null of every input and column of a pair (rows in the order of the draws)."""
    k, m = pair.inputs.shape[1], len(pair.columns.means)
    step = max(1, AT_ONCE // (len(draws) * m))
    blocks = [_block(Pair(pair.inputs[:, start : start + step], pair.columns), draws) for start in range(0, k, step)]
    p, adjusted_p, largest = zip(*blocks, strict=True)
    found = Null(np.concatenate(p), np.concatenate(adjusted_p), np.concatenate(largest, axis=1))
    still = unshiftable(pair.inputs, draws.grouped)
    found.p[still], found.adjusted_p[still] = np.nan, np.nan
    return found


def unshiftable(inputs: np.ndarray, grouped: Clusters) -> np.ndarray:
    """(k,) whether an input (n, k) is constant in every episode, so that shifts leave it as it is."""
    return (inputs == inputs[np.repeat(grouped.starts, grouped.lengths)]).all(0)


def _block(pair: Pair, draws: CircularShifts) -> Null:
    # Where a shift changes nothing, observed and null would differ by rounding alone, and rank by it.
    observed = np.round(pair.correlations, _DECIMALS)
    null = np.empty((len(draws), *observed.shape))
    for draw in range(len(draws)):
        null[draw] = pair.columns.correlations(pair.inputs[draws.rows(draw)])
    np.round(null, _DECIMALS, out=null)
    p = p_values(observed.ravel(), null.reshape(len(draws), -1)).reshape(observed.shape)
    largest = np.abs(null, out=null).max(2)
    adjusted = [
        p_values(np.abs(own), np.broadcast_to(bars[:, None], (len(bars), len(own))), "greater")
        for own, bars in zip(observed, largest.T, strict=True)
    ]
    return Null(p, np.stack(adjusted), largest)
