"""What effects split by phase say: which latents matter in one part of an episode rather than in others."""

from __future__ import annotations

from typing import Any

import numpy as np

from policylens.interventions.effects import Effects
from policylens.statistics.correction import benjamini_hochberg
from policylens.stores.shelf import Arrays


def selectivity(effects: Effects, top: int) -> dict[str, Any] | None:
    """The entry `phases`: what they are, and per mode and outcome what lies where; None where none were told apart."""
    named = effects.attributes.get("phases")
    if named is None:
        return None
    modes = {
        mode: {outcome: _outcome(effects.group(f"{mode}_phases"), outcome, top) for outcome in effects.outcomes}
        for mode in effects.modes
    }
    return {**named, "modes": modes}


def _outcome(found: Arrays, outcome: str, top: int) -> dict[str, Any]:
    """significant: of the tested latents, those with an adjusted p of at most .05 (Benjamini and Hochberg).

    typical: per phase the share that the median of the tested latents has there: where that is large, the phase is one
    in which the output depends on everything. by_phase: how many of the significant latents have each phase as theirs,
    the one with the largest excess over expectation. latents: phase by phase those of them that do most there, at most
    `top` in all.
    """
    own = {key.removeprefix(f"{outcome}_"): found[key] for key in found if key.startswith(f"{outcome}_")}
    tested = np.flatnonzero(np.isfinite(own["selectivity"]))
    adjusted = np.ones(len(own["p"]))
    if len(tested):
        adjusted[tested] = benjamini_hochberg(own["p"][tested].astype(np.float64))
    phase = np.argmax(np.nan_to_num(own["share"] - own["expected"], nan=-np.inf), axis=1)
    hits = tested[adjusted[tested] <= 0.05]
    count = own["share"].shape[1]
    listed = [
        place for p in range(count) for place in _largest(own["size"][:, p], hits[phase[hits] == p], top // count)
    ]
    return {
        "tested": len(tested),
        "significant": len(hits),
        "typical": np.median(own["share"][tested], axis=0).tolist() if len(tested) else [0.0] * count,
        "by_phase": np.bincount(phase[hits], minlength=count).tolist(),
        "latents": [_entry(found, own, int(place), int(phase[place]), adjusted) for place in listed],
    }


def _largest(sizes: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    return places[np.argsort(-sizes[places], kind="stable")][:count]


def _entry(found: Arrays, own: Arrays, place: int, phase: int, adjusted: np.ndarray) -> dict[str, Any]:
    low, high = (_number(own[f"share_{end}"][place, phase]) for end in ("low", "high"))
    return {
        "latent": int(found["latent"][place]),
        "phase": phase,
        "share": float(own["share"][place, phase]),
        "low": low,
        "high": high,
        "expected": float(own["expected"][place, phase]),
        "selectivity": float(own["selectivity"][place]),
        "p": float(own["p"][place]),
        "adjusted_p": float(adjusted[place]),
        "density": [float(value) for value in found["density"][place]],
        "size": [_number(value) for value in own["size"][place]],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
