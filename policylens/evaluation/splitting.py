"""What becomes of a feature in a wider SAE: does it stay one latent, split into several, or vanish?

A latent of the wider SAE is a *child* of a latent of the narrower one where the cosine of their decoder directions
is at least a threshold. A latent of the wider SAE without a parent is *new*. Feature splitting: Bricken et al.,
"Towards monosemanticity" (2023); new latents against those that only redo a narrower SAE's, with 0.7 as the
threshold: Leask et al., "Sparse autoencoders do not find canonical units of analysis" (2025), arXiv:2502.04878.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from policylens.evaluation.matching import BLOCK_ENTRIES, THRESHOLDS
from policylens.evaluation.stability import RandomDirections

CHILD = 0.7
"""The threshold of the children whose activity is looked at."""


def children(narrow: np.ndarray, wide: np.ndarray, threshold: float = CHILD) -> scipy.sparse.csr_array:
    """Which unit vectors of `wide` (b, d) are children of which of `narrow` (a, d): bool (a, b), sparse."""
    block = max(1, BLOCK_ENTRIES // len(wide))
    pieces = [
        scipy.sparse.csr_array(narrow[start : start + block] @ wide.T >= threshold)
        for start in range(0, len(narrow), block)
    ]
    return scipy.sparse.csr_array(scipy.sparse.vstack(pieces, format="csr"))


def split_numbers(found: scipy.sparse.csr_array) -> dict[str, float]:
    """What :func:`children` come to.

    children: mean number per latent of the narrower SAE. none, one, split: shares of these latents with no, one, and
    two or more children. new: share of the wider SAE's latents without a parent.
    """
    counts = np.diff(found.indptr)
    parents = np.bincount(found.indices, minlength=found.shape[1])
    return {
        "children": float(counts.mean()),
        "none": float((counts == 0).mean()),
        "one": float((counts == 1).mean()),
        "split": float((counts > 1).mean()),
        "new": float((parents == 0).mean()),
    }


def splitting(narrow: np.ndarray, wide: np.ndarray) -> dict[str, dict[str, float]]:
    """Threshold -> :func:`split_numbers` of unit vectors (a, d) and (b, d)."""
    return {f"{limit:g}": split_numbers(children(narrow, wide, limit)) for limit in THRESHOLDS}


def null_splitting(narrow: np.ndarray, count: int, null: RandomDirections) -> dict[str, Any]:
    """Per null :func:`splitting` with `count` random directions in the wider SAE's place, mean over the sets."""
    return {name: _averaged([splitting(narrow, drawn) for drawn in sets]) for name, sets in null.sets(count).items()}


def _averaged(found: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        limit: {name: float(np.mean([entry[limit][name] for entry in found])) for name in found[0][limit]}
        for limit in found[0]
    }


class Coverage:
    """In what share of the rows in which a parent is active any of its children is, row batch by row batch."""

    def __init__(self, found: scipy.sparse.csr_array) -> None:
        """found: of :func:`children`."""
        self._of_child = scipy.sparse.csr_array(found.T, dtype=np.float32)
        self.active = np.zeros(found.shape[0], np.int64)
        self.covered = np.zeros(found.shape[0], np.int64)

    def add(self, narrow: np.ndarray, wide: np.ndarray) -> None:
        """Which latents are active in the same rows, bool (n, a) and (n, b)."""
        any_child = (scipy.sparse.csr_array(wide, dtype=np.float32) @ self._of_child).toarray() > 0
        self.active += narrow.sum(axis=0)
        self.covered += (narrow & any_child).sum(axis=0)

    def share(self, parents: np.ndarray) -> float | None:
        """Over all rows of these latents (positions or mask); None where none of them is ever active."""
        active = int(self.active[parents].sum())
        return int(self.covered[parents].sum()) / active if active else None
