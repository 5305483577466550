"""The Pareto front of sparsity and quality: the members that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Report = Mapping[str, Any]

QUALITIES = ("explained_variance", "kl_recovered")


def quality_of(report: Report, quality: str) -> Mapping[str, Any] | None:
    """The estimate of a quality in a metrics.json; `kl_recovered` is that from mean-ablation, None if not measured."""
    if quality == "explained_variance":
        return report["metrics"][quality]
    return report["fidelity"]["kl_recovered"]["mean"] if report["fidelity"] else None


def fronts(reports: Mapping[str, Report]) -> dict[str, list[str]]:
    """Quality -> members on its front against L0, sparsest first; only qualities measured of every member.

    A member without an active latent stands on none: it is no dictionary.
    """
    found = {}
    for quality in QUALITIES:
        estimates = {name: quality_of(report, quality) for name, report in reports.items()}
        if not all(estimates.values()):
            continue
        places = [(_l0(reports[name]), _number(estimate["value"])) for name, estimate in estimates.items()]
        on_it = pareto_front(*zip(*places, strict=True))
        names = [name for name, stands in zip(reports, on_it, strict=True) if stands]
        found[quality] = sorted(names, key=lambda name: (_l0(reports[name]), name))
    return found


def pareto_front(cost: Sequence[float], quality: Sequence[float]) -> np.ndarray:
    """(n,) True where no other point is as cheap and as good, and better in one of the two.

    cost: (n,) less is better. quality: (n,) more is better. Points that are not finite stand on no front. Equal points
    stand on it together.
    """
    costs, qualities = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    known = np.isfinite(costs) & np.isfinite(qualities)
    front = np.zeros(len(costs), dtype=bool)
    for i in np.flatnonzero(known):
        as_good = known & (costs <= costs[i]) & (qualities >= qualities[i])
        front[i] = not (as_good & ((costs < costs[i]) | (qualities > qualities[i]))).any()
    return front


def _l0(report: Report) -> float:
    return report["metrics"]["l0"]["value"] or np.inf


def _number(value: float | None) -> float:
    return np.nan if value is None else value
