"""metrics.json: everything measured of one SAE. schemas/sae_metrics.schema.json is its form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policylens.evaluation.reconstruction import RowTable, core_metrics, dead, density
from policylens.evaluation.saebench import saebench_metrics
from policylens.sae.base import SAE
from policylens.statistics.resampling import Resampling

FORMAT = 1
ORIGIN = ("policy", "checkpoint", "checkpoint_sha256", "site")
CAPTURE = ("capture", "capture_sha256")


def sae_report(
    sae: SAE,
    table: RowTable,
    episodes: np.ndarray,
    resampling: Resampling,
    split: str,
    fidelity: dict[str, Any] | None = None,
    concepts: tuple[dict[str, Any] | None, dict[str, Any] | None] = (None, None),
    capture: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of metrics.json.

    table: of :func:`row_table`. episodes: (n,) of its rows. split: the evaluated one.
    fidelity: of `policylens.evaluation.fidelity.summarise`, or None where the policy could not be run. concepts: of
    `policylens.evaluation.concepts.concept_report`, or None twice where there are no labels. capture: what the rows
    are of, `capture` and `capture_sha256`; None: what the SAE was trained on.
    """
    n_rows, n_episodes = len(episodes), len(np.unique(episodes))
    return {
        "format": FORMAT,
        **{name: getattr(sae.cfg, name) for name in ORIGIN},
        **(capture or {name: getattr(sae.cfg, name) for name in CAPTURE}),
        "d_in": sae.cfg.d_in,
        "d_sae": sae.cfg.d_sae,
        "settings": dict(sae.cfg.settings),
        "training_seed": sae.cfg.seed,
        "split": split,
        "n_rows": n_rows,
        "n_episodes": n_episodes,
        "metrics": core_metrics(table, episodes, resampling),
        "density": density(table.fired, n_rows),
        "dead": dead(table.fired, n_rows, n_episodes),
        "fidelity": fidelity,
        "saebench": saebench_metrics(sae, table, episodes, resampling, fidelity),
        "alignment": concepts[0],
        "probing": concepts[1],
    }
