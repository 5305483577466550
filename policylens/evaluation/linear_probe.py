"""What a linear probe finds in some columns: the ceiling for any single unit made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch

from policylens.concepts.probes import Probes, fit_probes
from policylens.evaluation.alignment import Alignment, Group, Scored
from policylens.statistics.auc import aucs

RIDGES = (0.1, 0.01, 0.001)


def linear_probe(alignment: Alignment, features: Mapping[str, np.ndarray]) -> Scored:
    """A logistic probe per target, fitted on training rows; its ridge is the best one on validation rows.

    features: split -> (n, d) float32.
    """
    scores = {split: np.empty((len(features[split]), len(alignment.targets))) for split in ("validation", "test")}
    chosen: Counter[str] = Counter()
    for group in alignment.groups:
        chosen += _add(group, features, scores)
    facts = {"columns": features["train"].shape[1], "ridges": {f"{ridge:g}": chosen[f"{ridge:g}"] for ridge in RIDGES}}
    return alignment.probe(scores, facts)


def _add(group: Group, features: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]) -> Counter[str]:
    """Write the scores of a group's targets; returns how often each ridge was taken."""
    own = {split: torch.from_numpy(features[split][rows]) for split, rows in group.rows.items()}
    probes = fit_probes(own["train"], torch.from_numpy(group.positive["train"]).float(), RIDGES)
    best = _best(probes, own["validation"], group.positive["validation"])
    for split in scores:
        every = np.stack([fitted.scores(own[split]).numpy() for fitted in probes])
        taken = every[best, :, np.arange(len(best))].T
        scores[split][np.ix_(group.rows[split], group.targets)] = taken
    return Counter(f"{RIDGES[number]:g}" for number in best)


def _best(probes: list[Probes], x: torch.Tensor, positive: np.ndarray) -> np.ndarray:
    """(t,) position of the ridge with the largest AUC on these rows."""
    found = []
    for fitted in probes:
        scores = fitted.scores(x).numpy()
        own = [aucs(scores[:, [t]], positive[:, [t]])[0, 0] for t in range(positive.shape[1])]
        found.append(own)
    return np.argmax(found, axis=0)
