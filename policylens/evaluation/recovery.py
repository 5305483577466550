"""How much of a known dictionary an SAE has found."""

from __future__ import annotations

import numpy as np

from policylens.evaluation.matching import match_directions, unit_rows

FOUND = 0.9
"""Cosine from which a learnt direction counts as a true one."""


def recovery(learnt: np.ndarray, true: np.ndarray, threshold: float = FOUND) -> dict[str, float]:
    """Learnt directions (m, d) against the true ones (g, d), matched one to one by cosine (the Hungarian method).

    recall: share of the true directions with a learnt partner at a cosine of at least `threshold`. precision: share
    of the learnt directions that are such a partner. mean_cosine: mean over all true directions of the cosine of
    their partner, 0 where they have none. Give only the latents that are ever active: a dead one finds nothing.
    """
    matching = match_directions(unit_rows(learnt), unit_rows(true))
    found = int((matching.similarity >= threshold).sum())
    return {
        "recall": found / len(true),
        "precision": found / len(learnt),
        "mean_cosine": float(np.clip(matching.similarity, 0, None).sum() / len(true)),
    }
