"""What effects say: which latents matter for which outcome, and whether they matter more than random directions do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from policylens.interventions.clusters import clustered
from policylens.interventions.effects import Effects
from policylens.interventions.profiles import raised_effects
from policylens.interventions.selectivity import selectivity
from policylens.statistics.correction import benjamini_hochberg
from policylens.statistics.directions import CONTROLS, percentile
from policylens.stores.shelf import Arrays

FORMAT = 1
TOP = 30
MEASURES = ("norm", "size")


def analysis(
    effects: Effects, origin: Mapping[str, Any], top: int = TOP, clusters: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """analysis.json of a site: per mode and outcome a ranking, controls, and the first-order estimate's agreement.

    Per mode, clusters of latents by causal profile, and where phases were told apart, in which each latent matters.
    origin: policy, checkpoint, site and the like, kept as given. top: how many latents a ranking names. clusters: how
    many; None: what separates them best. seed: of the clustering and its nulls.
    """
    latents = effects.group("latents")
    attributes = effects.attributes
    return {
        "format": FORMAT,
        **origin,
        "n_rows": attributes["n_rows"],
        "n_episodes": attributes["n_episodes"],
        "n_latents": attributes["n_latents"],
        "n_measured": len(latents["latent"]),
        "l0": attributes["l0"],
        "outcomes": effects.outcomes,
        "modes": {mode: _mode(effects, mode, latents, top) for mode in effects.modes},
        "clusters": {mode: _clusters(effects, mode, clusters, seed) for mode in effects.modes},
        "phases": selectivity(effects, top),
    }


def _clusters(effects: Effects, mode: str, count: int | None, seed: int) -> dict[str, Any] | None:
    found = effects.group(mode)
    folds = raised_effects(found, list(effects.outcomes))
    return clustered(found["latent"], folds, effects.attributes["fold_rows"], count, seed)


def _mode(effects: Effects, mode: str, latents: Arrays, top: int) -> dict[str, Any]:
    found, estimated = effects.group(mode), effects.group(f"{mode}_gradient")
    controls = effects.group(f"{mode}_controls") if effects.has(f"{mode}_controls") else None
    return {
        outcome: {
            "ranking": ranking(found, latents, outcome, effects.attributes["n_rows"], top),
            "density_correlation": _spearman(found[f"{outcome}_norm"], latents["density"]),
            "first_order": agreement(found, estimated, outcome) if outcome in estimated else None,
            "controls": None if controls is None else against_controls(found, controls, outcome),
        }
        for outcome in effects.outcomes
    }


def ranking(found: Arrays, latents: Arrays, outcome: str, n_rows: int, top: int) -> list[dict[str, Any]]:
    """The latents whose mean effect on an outcome has the largest norm, strongest first.

    norm = density x conditional: a latent can matter because it is often active or because it does much when it is.
    `rows` is the share of rows that the intervention changes: of a zero-ablation the latent's density. mean, low, high:
    of an outcome of one unit, with its 95% interval over episodes.
    """
    order = np.argsort(-found[f"{outcome}_norm"], kind="stable")[:top]
    single = found[f"{outcome}_mean"].shape[1] == 1
    entries = []
    for place in order:
        norm, share = float(found[f"{outcome}_norm"][place]), float(found["rows_changed"][place] / n_rows)
        entry = {
            "latent": int(found["latent"][place]),
            "norm": norm,
            "size": float(found[f"{outcome}_size"][place]),
            "density": float(latents["density"][place]),
            "rows": share,
            "conditional": norm / share if share else 0.0,
        }
        if single:
            entry |= {key: float(found[f"{outcome}_{key}"][place, 0]) for key in ("mean", "low", "high")}
        entries.append(entry)
    return entries


def agreement(found: Arrays, estimated: Arrays, outcome: str) -> dict[str, float | None]:
    """Spearman's rank correlation of first-order estimates with exact mean effects: unit by unit, and of the norms."""
    exact, estimate = found[f"{outcome}_mean"], estimated[outcome]
    return {
        "units": _spearman(exact.ravel(), estimate.ravel()),
        "norms": _spearman(np.linalg.norm(exact, axis=1), np.linalg.norm(estimate, axis=1)),
    }


def against_controls(found: Arrays, controls: Arrays, outcome: str) -> dict[str, Any]:
    """Where the controlled latents stand among random directions of the same per-row norms.

    Per kind of direction and measure: percentile, one-sided p = (1 + directions at least as strong) / (1 + directions),
    and p adjusted over the controlled latents (Benjamini and Hochberg). significant: how many have an adjusted p of at
    most .05.
    """
    places = np.searchsorted(found["latent"], controls["latent"])
    record: dict[str, Any] = {"latents": controls["latent"].tolist()}
    for kind in CONTROLS:
        for measure in MEASURES:
            own = found[f"{outcome}_{measure}"][places].astype(np.float64)
            beside = controls[f"{outcome}_{kind}_{measure}"].astype(np.float64)
            p = (1 + (beside >= own[:, None]).sum(1)) / (1 + beside.shape[1])
            adjusted = benjamini_hochberg(p)
            record[f"{kind}_{measure}"] = {
                "effect": own.tolist(),
                "median": np.median(beside, axis=1).tolist(),
                "percentile": np.atleast_1d(percentile(own, beside.T)).tolist(),
                "p": p.tolist(),
                "adjusted_p": adjusted.tolist(),
                "significant": int((adjusted <= 0.05).sum()),
                "directions": beside.shape[1],
            }
    return record


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Rank correlation; None where one of the two is constant."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)
