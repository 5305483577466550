"""How much of what the latents do a circuit keeps, and how much is left without it.

    m(C) = - E[distance between the output with everything outside C changed and the unchanged output]
    faithfulness of C = (m(C) - m(empty)) / (m(full) - m(empty))
    completeness: the same of everything but C, which should be near 0

(Marks et al. 2024, "Sparse feature circuits", arXiv:2403.19647, with the distance as the metric.) A circuit can score
below 0: changing only some latents can do more than changing them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policylens.statistics.clusters import Clusters
from policylens.statistics.directions import percentile
from policylens.statistics.intervals import bootstrap_sums
from policylens.statistics.resampling import Resampling


class Scores:
    """empty, full: (n,) distances of the empty circuit and of the one with all latents. episodes: (n,) of the rows."""

    def __init__(self, empty: np.ndarray, full: np.ndarray, episodes: np.ndarray, seed: int) -> None:
        self._clusters, self._resampling = Clusters.of(episodes), Resampling(seed)
        self._empty, self._full = (self._clusters.sums(values) for values in (empty, full))

    @property
    def reach(self) -> float:
        """m(full) - m(empty) per row: what there is to explain, in units of the distance."""
        return float((self._empty.sum() - self._full.sum()) / self._clusters.n_rows)

    def share(self, distance: np.ndarray) -> dict[str, Any]:
        """Faithfulness of a circuit with these distances, (n,), with its 95% interval over episodes."""
        terms = (self._clusters.sums(distance), self._empty, self._full)
        return self._record(terms, lambda own, empty, full: (empty - own) / (empty - full))

    def difference(self, distance: np.ndarray, other: np.ndarray) -> dict[str, Any]:
        """Faithfulness of one circuit less that of another, on the same rows."""
        terms = (*(self._clusters.sums(values) for values in (distance, other)), self._empty, self._full)
        return self._record(terms, lambda own, than, empty, full: (than - own) / (empty - full))

    def shares(self, distances: np.ndarray) -> np.ndarray:
        """Faithfulness of each of many circuits, (k,), from (k, n)."""
        reach = self._empty.sum() - self._full.sum()
        return (self._empty.sum() - distances.sum(1)) / reach if reach else np.full(len(distances), np.nan)

    def _record(self, terms: tuple[np.ndarray, ...], combine: Any) -> dict[str, Any]:
        found = bootstrap_sums(terms, combine, self._resampling, n_rows=self._clusters.n_rows, undefined="nan").record()
        return {key: found[key] for key in ("value", "low", "high")}


def against_random(own: float, drawn: np.ndarray) -> dict[str, Any]:
    """Where a circuit's faithfulness stands among those of random circuits, (n,) of at least 200.

    p: one-sided, (1 + random ones at least as faithful) / (1 + random ones).
    """
    low, median, high = (float(np.quantile(drawn, q)) for q in (0.05, 0.5, 0.95))
    p = (1 + int((drawn >= own).sum())) / (1 + len(drawn))
    return {"count": len(drawn), "low": low, "median": median, "high": high, "highest": float(drawn.max()),
            "percentile": float(percentile(own, drawn)), "p": p}  # fmt: skip
