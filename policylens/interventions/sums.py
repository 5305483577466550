"""Adding up effects: per changed latent and unit of the outcome, with what intervals over episodes need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from scipy import stats

FOLDS = 4
"""Disjoint parts of the episodes whose effects are also kept apart: two and two make three pairs of halves."""


@dataclass(frozen=True)
class Sums:
    """Sums over all rows of an effect e, of k latents on w units: float64 (k, w) each.

    signed: of e. size: of |e|. squares: over episodes, of the squared sum of e in the episode. weighted: over episodes,
    of that sum times the number of the episode's rows.
    raised: (k, FOLDS, w) of e times the sign of the change, over the rows of each fold of episodes: what more of the
    latent does. row_size: float32 (k, n), in each row the sum
    of |e| over units. Both are empty where nobody asked for them: controls only need the sums.
    """

    signed: np.ndarray
    size: np.ndarray
    squares: np.ndarray
    weighted: np.ndarray
    raised: np.ndarray
    row_size: np.ndarray

    @classmethod
    def zeros(cls, latents: int, width: int, rows: int = 0) -> Sums:
        """Nothing added yet. rows: how many there are, to keep folds and rows too; 0: not to."""
        sums = (np.zeros((latents, width)) for _ in range(4))
        raised = np.zeros((latents, FOLDS if rows else 0, width))
        return cls(*sums, raised, np.zeros((latents, rows), np.float32))

    def add(
        self,
        after: np.ndarray,
        before: np.ndarray,
        rows: np.ndarray,
        latent: int,
        episodes: Episodes,
        signs: np.ndarray | None = None,
    ) -> None:
        """Add e = after - before[rows] of one latent: after (b, w) float32, rows (b,) ascending.

        signs: (n,) float64 of the change in every row, where folds are kept.

        All rows of an episode in which the latent is changed must come in one call.
        """
        _add(
            after,
            before,
            rows,
            episodes.of_row,
            episodes.lengths,
            episodes.folds,
            np.zeros(0) if signs is None else signs,
            self.signed[latent],
            self.size[latent],
            self.squares[latent],
            self.weighted[latent],
            self.raised[latent],
            self.row_size[latent],
        )

    def fold_means(self, episodes: Episodes) -> np.ndarray:
        """Mean of `raised` over the rows of each fold, float64 (k, FOLDS, w); 0 in a fold without rows."""
        return self.raised / np.maximum(episodes.fold_rows, 1)[:, None]

    def means(self, episodes: Episodes) -> dict[str, np.ndarray]:
        """mean, low, high (95% interval) and mean_size, the mean of |e|: float64 (k, w), over all rows.

        The mean is the ratio of two sums over episodes, sum_e S_e / sum_e n_e. Its interval is Student's with the
        linearised variance of such a ratio, E / (E - 1) sum_e (S_e - mean n_e)^2 / n^2 (Cochran, "Sampling
        Techniques", 1977, section 6.3), and E - 1 degrees of freedom.
        """
        count, n = len(episodes.lengths), episodes.n_rows
        mean = self.signed / n
        squares = float((episodes.lengths.astype(np.float64) ** 2).sum())
        # What rounding leaves of a difference of equal terms is no variance.
        spread = np.maximum(self.squares - 2 * mean * self.weighted + mean**2 * squares, 0)
        arm = stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * spread) / n
        return {"mean": mean, "low": mean - arm, "high": mean + arm, "mean_size": self.size / n}


@dataclass(frozen=True)
class Episodes:
    """of_row: (n,) position of each row's episode; rows of one stand together. lengths: (E,) rows of each episode."""

    of_row: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> Episodes:
        """From each row's episode number, ascending."""
        _, of_row, lengths = np.unique(numbers, return_inverse=True, return_counts=True)
        return cls(of_row.astype(np.int64), lengths.astype(np.int64))

    @property
    def n_rows(self) -> int:
        """Rows of all episodes."""
        return len(self.of_row)

    @property
    def first(self) -> np.ndarray:
        """(E,) int64: the first row of each episode."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def folds(self) -> np.ndarray:
        """(E,) int64: the fold of each episode, 0 to FOLDS - 1, drawn; as many episodes always give the same."""
        return np.random.default_rng(0).permutation(len(self.lengths)) % FOLDS

    @property
    def fold_rows(self) -> np.ndarray:
        """(FOLDS,) rows of the episodes of each fold."""
        return np.bincount(self.folds, self.lengths, FOLDS).astype(np.int64)


@njit(nogil=True, cache=True)
def _add(
    after, before, rows, episode_of_row, lengths, fold_of, signs, signed, size, squares, weighted, raised, row_size
):
    """One pass: subtract, add up within each episode, and at its end add the sum's powers."""
    width = after.shape[1]
    inside = np.zeros(width)
    for p in range(len(rows)):
        row, in_row = rows[p], 0.0
        for c in range(width):
            effect = np.float64(after[p, c]) - np.float64(before[row, c])
            inside[c] += effect
            size[c] += abs(effect)
            in_row += abs(effect)
        episode = episode_of_row[row]
        if len(row_size):
            row_size[row] = in_row
            fold, sign = fold_of[episode], signs[row]
            for c in range(width):
                raised[fold, c] += sign * (np.float64(after[p, c]) - np.float64(before[row, c]))
        if p + 1 == len(rows) or episode_of_row[rows[p + 1]] != episode:
            length = lengths[episode]
            for c in range(width):
                signed[c] += inside[c]
                squares[c] += inside[c] * inside[c]
                weighted[c] += length * inside[c]
                inside[c] = 0.0
