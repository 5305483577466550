"""ranking.csv: every latent that is ever active, by its largest |r| with any input."""

from __future__ import annotations

from typing import Any

import numpy as np

from policylens.correlations.analysis import entry, order_by, strengths
from policylens.correlations.measure import MEASURES
from policylens.stores.groups import Groups


def ranking_rows(store: Groups) -> list[dict[str, Any]]:
    """A line per measure and latent, the largest max |r| first."""
    found, latents, facts = store.group("inputs"), store.group("latents"), store.attributes
    rows = []
    for measure in MEASURES:
        r = found[measure]
        own = strengths(r)
        by_mean = np.empty(r.shape[1], np.int64)
        by_mean[order_by(own["mean"])] = np.arange(1, r.shape[1] + 1)
        for rank, latent in enumerate(order_by(own["max"]), start=1):
            if latents["density"][latent]:
                line = entry(latent, r, own, found, latents, facts, measure)
                rows.append({"measure": measure, "rank": rank, "rank_by_mean": int(by_mean[latent]), **line})
    return rows
