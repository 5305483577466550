"""Whether a direction is one of the concepts or one of the episodes that happened to be recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtrit

from policylens.directions.cells import Cells
from policylens.directions.weights import contrast, folds, halves, kinds, midpoint
from policylens.statistics.auc import Pairs, auc_estimates, aucs
from policylens.statistics.estimate import Estimate
from policylens.statistics.nulls import p_values
from policylens.statistics.resampling import Resampling

SPLITS = 50
"""Random halvings whose mean is taken."""
GROUPS = 50
"""Of episodes at most, left out one at a time for an interval."""
FOLDS = 5
LEVEL = 0.95


def cosines(gram: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of the directions with weights first and second, (..., c) each; NaN where one of them is 0."""
    products = [((a @ gram) * b).sum(-1) for a, b in ((first, second), (first, first), (second, second))]
    with np.errstate(divide="ignore", invalid="ignore"):
        return products[0] / np.sqrt(np.maximum(products[1], 0) * np.maximum(products[2], 0))


def norms(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Length of the directions with these weights, (...,)."""
    return np.sqrt(np.maximum(((weights @ gram) * weights).sum(-1), 0))


def split_half(cells: Cells, gram: np.ndarray, seed: int) -> Estimate | None:
    """Cosine of the directions from two random halves of the episodes, mean over halvings; None with too few episodes.

    The interval is a jackknife over episodes (over `GROUPS` groups where there are more), on Fisher's scale artanh,
    with Student's quantile: a bootstrap would put copies of an episode into both halves.
    """
    episodes, _, of_cell = kinds(cells)
    if min(episodes_of(cells)) < 4:
        return None
    rng = np.random.default_rng(seed)
    half = halves(cells, SPLITS, rng)[:, of_cell]
    groups = rng.permutation(np.arange(len(episodes)) % GROUPS)[of_cell]

    def agreement(kept: np.ndarray) -> float:
        found = cosines(gram, contrast(cells, kept=half * kept), contrast(cells, kept=~half * kept))
        return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan

    value = agreement(np.ones(len(cells)))
    left_out = np.array([agreement((groups != group).astype(float)) for group in np.unique(groups)])
    low, high = jackknife(value, left_out)
    return Estimate(value, low, high, LEVEL, int(cells.count.sum()), len(episodes), "episode")


def jackknife(value: float, left_out: np.ndarray) -> tuple[float, float]:
    """Ends of a 95% interval of a cosine from its values with one of g groups left out; NaN where it is not defined.

    se^2 = (g - 1) / g sum (artanh c_i - mean)^2, with Student's quantile of g - 1 degrees of freedom.
    """
    g = len(left_out)
    if g < 3 or not np.isfinite(left_out).all() or not np.isfinite(value):
        return np.nan, np.nan
    bounded = np.arctanh(np.clip([value, *left_out], -1 + 1e-12, 1 - 1e-12))
    error = np.sqrt((g - 1) / g * ((bounded[1:] - bounded[1:].mean()) ** 2).sum())
    half = -stdtrit(g - 1, (1 - LEVEL) / 2) * error
    return float(np.tanh(bounded[0] - half)), float(np.tanh(bounded[0] + half))


def episodes_of(cells: Cells) -> tuple[int, int]:
    """How many episodes show the negative and the positive concept."""
    return tuple(len(np.unique(cells.episode[cells.positive == side])) for side in (False, True))


class HeldOut:
    """Scores of episodes along the direction of other episodes: cross-validated, each episode as one.

    A unit is all rows of one concept in one episode; its score is its mean's place along the direction of the other
    folds, from the point half way between their means, in the activation's (or latents') own units.
    """

    def __init__(self, cells: Cells, gram: np.ndarray, seed: int) -> None:
        self.cells, self.gram = cells, gram
        count = min(FOLDS, *episodes_of(cells))
        self.fold = folds(cells, count, np.random.default_rng(seed))
        self.unit = cells.units()
        _, first = np.unique(self.unit, return_index=True)
        self.positive, self.episode, self.of_fold = cells.positive[first], cells.episode[first], self.fold[first]
        total = np.bincount(self.unit, weights=cells.count)
        self.means = (self.unit == np.arange(len(first))[:, None]) / total[:, None]

    def scores(self, positive: np.ndarray) -> np.ndarray:
        """(..., units) under labels of the cells (..., c); 0 where the other folds lack a concept."""
        found = np.zeros((*positive.shape[:-1], len(self.means)))
        for fold in np.unique(self.fold):
            kept = (self.fold != fold).astype(float)
            direction = contrast(self.cells, positive, kept) @ self.gram
            length = np.sqrt(
                np.maximum((direction * contrast(self.cells, positive, kept)).sum(-1, keepdims=True), 1e-300)
            )
            mine = self.of_fold == fold
            middle = (midpoint(self.cells, positive, kept) * direction).sum(-1, keepdims=True)
            found[..., mine] = (direction @ self.means[mine].T - middle) / length
        return np.nan_to_num(found)

    def auc(self, seed: int) -> Estimate:
        """AUC of the scores, whether a unit is of the positive concept, with its interval over episodes."""
        scores = self.scores(self.cells.positive)
        clusters = np.unique(self.episode, return_inverse=True)[1].reshape(-1)
        count = int(clusters.max()) + 1
        pairs = Pairs(self.positive[:, None], clusters, count)
        return auc_estimates(pairs.wins(scores), pairs.totals, Resampling(seed), len(scores))[0]

    def null(self, drawn: np.ndarray) -> np.ndarray:
        """(draws,) AUC under rearranged labels of the cells (draws, c)."""
        _, first = np.unique(self.unit, return_index=True)
        scores = self.scores(drawn)
        return np.array(
            [aucs(own[:, None], labels[first][:, None])[0, 0] for own, labels in zip(scores, drawn, strict=True)]
        )


def against_chance(observed: float, null: np.ndarray) -> dict[str, Any]:
    """p (that a rearrangement gives as much or more), and where 95% of them stay below."""
    return {
        "value": float(observed),
        "p": float(p_values(observed, null, "greater")),
        "null_q95": float(np.quantile(null, 0.95)),
        "permutations": len(null),
    }


def across_texts(cells: Cells, gram: np.ndarray) -> list[dict[str, Any]]:
    """For every instruction of each concept, left out as a pair: how the direction of all others does on these two.

    cosine: of the direction from the other instructions with that of the two. auc: of its scores on the two's units.
    Empty unless both concepts have two instructions or more, none of them in common.
    """
    sides = [sorted(set(cells.text[cells.positive == side].tolist())) for side in (True, False)]
    if min(map(len, sides)) < 2 or -1 in sides[0] + sides[1] or set(sides[0]) & set(sides[1]):
        return []
    unit = cells.units()
    found = []
    for one in sides[0]:
        for other in sides[1]:
            out = np.isin(cells.text, (one, other))
            rest, own = contrast(cells, kept=~out * 1.0), contrast(cells, kept=out * 1.0)
            scores, labels = [], []
            for number in np.unique(unit[out]):
                mine = out & (unit == number)
                scores.append((mine / cells.count[mine].sum()) @ gram @ rest)
                labels.append(cells.positive[mine][0])
            auc = aucs(np.array(scores)[:, None], np.array(labels)[:, None])[0, 0]
            entry = {"positive": int(one), "negative": int(other), "cosine": _plain(cosines(gram, rest, own))}
            found.append({**entry, "auc": float(auc), "units": len(scores)})
    return found


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
