"""ranking.csv: the strongest latents per mode and outcome, and their places among random directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.statistics.directions import CONTROLS

COLUMNS = ("latent", "norm", "size", "density", "rows", "conditional", "mean", "low", "high")
BESIDE = ("percentile", "adjusted_p")


def ranking_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per mode, outcome and ranked latent; empty cells where there is no number. record: analysis.json.

    {kind}_percentile, {kind}_adjusted_p: of the norm, among directions of that kind.
    """
    return [
        {"mode": mode, "outcome": outcome, "rank": rank}
        | {name: entry.get(name, "") for name in COLUMNS}
        | _beside(found["controls"], entry["latent"])
        for mode, outcomes in record["modes"].items()
        for outcome, found in outcomes.items()
        for rank, entry in enumerate(found["ranking"], start=1)
    ]


def _beside(controls: Mapping[str, Any] | None, latent: int) -> dict[str, Any]:
    there = controls is not None and latent in controls["latents"]
    place = controls["latents"].index(latent) if there else None
    return {
        f"{kind}_{name}": controls[f"{kind}_norm"][name][place] if there else "" for kind in CONTROLS for name in BESIDE
    }
