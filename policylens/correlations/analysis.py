"""analysis.json: what the correlations of a site say, as rankings of its latents and as an entry per input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policylens.correlations.measure import MEASURES
from policylens.correlations.store import SINGULAR
from policylens.correlations.study import PREFIXES, QUANTILES, Arrays
from policylens.statistics.correction import benjamini_hochberg
from policylens.stores.groups import Groups

FORMAT = 1
TOP = 30
BEST = 5
"""Latents that an input's entry names."""
LEVEL = 0.05


def analysis(store: Groups, origin: Mapping[str, Any], top: int = TOP) -> dict[str, Any]:
    """The record of a site. origin: policy, checkpoint, site and the like, kept as given. top: latents of a ranking."""
    found, latents, facts = store.group("inputs"), store.group("latents"), store.attributes
    return {
        "format": FORMAT,
        **origin,
        **{key: facts[key] for key in ("n_rows", "n_episodes", "n_latents", "n_units", "positions", "l0", "left_out")},
        "n_active": int((latents["density"] > 0).sum()),
        "null": facts["null"],
        "rankings": {measure: rankings(found[measure], found, latents, facts, measure, top) for measure in MEASURES},
        "inputs": _inputs(found, latents, facts),
        "significant": {measure: significant(found, measure) for measure in MEASURES},
        "held_out": _held_out(store),
        "no_held_out": facts["no_held_out"],
    }


def strengths(r: np.ndarray) -> dict[str, np.ndarray]:
    """Of correlations (inputs, latents), per latent: "max" and "mean" of |r| over the inputs, (latents,)."""
    return {"max": np.abs(r).max(0), "mean": np.abs(r).mean(0)}


def order_by(strength: np.ndarray) -> np.ndarray:
    """Latents, the strongest first; equal ones by number."""
    return np.argsort(-strength, kind="stable")


def rankings(
    r: np.ndarray, found: Arrays, latents: Arrays, facts: Mapping[str, Any], measure: str, top: int
) -> dict[str, list[dict[str, Any]]]:
    """By "max" and by "mean" of |r| over the inputs: the first latents, each with the input that it follows most."""
    own = strengths(r)
    return {
        kind: [entry(latent, r, own, found, latents, facts, measure) for latent in order_by(strength)[:top]]
        for kind, strength in own.items()
    }


def entry(
    latent: int,
    r: np.ndarray,
    own: Mapping[str, np.ndarray],
    found: Arrays,
    latents: Arrays,
    facts: Mapping[str, Any],
    measure: str,
) -> dict[str, Any]:
    """A latent in a ranking. p: of its strongest input, adjusted over latents, not over inputs."""
    strongest = int(np.abs(r[:, latent]).argmax())
    return {
        "latent": int(latent),
        "max": float(own["max"][latent]),
        "mean": float(own["mean"][latent]),
        "input": facts["inputs"][strongest]["name"],
        "r": float(r[strongest, latent]),
        "adjusted_p": _number(found.get(f"{measure}_adjusted_p"), strongest, latent),
        "density": float(latents["density"][latent]),
        "active_rows": int(latents["active_rows"][latent]),
    }


def significant(found: Arrays, measure: str) -> dict[str, Any] | None:
    """Inputs that some latent (or unit) follows beyond chance: adjusted over latents by the largest |r| of each draw,
    then over inputs (Benjamini and Hochberg). None without a null."""
    if f"{measure}_adjusted_p" not in found:
        return None
    record = {}
    for side, prefix in PREFIXES.items():
        p = _least(found[f"{prefix}{measure}_adjusted_p"])
        tested = p[np.isfinite(p)]
        below = benjamini_hochberg(tested) <= LEVEL if len(tested) else tested
        record[side] = {"inputs": int(below.sum()), "tested": len(tested)}
    return record


def _inputs(found: Arrays, latents: Arrays, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **facts["inputs"][place],
            "rows": int(found["rows"][place]),
            "episodes": int(found["episodes"][place]),
            "constant": bool(found["constant"][place]),
            **{measure: _of_input(place, measure, found, latents) for measure in MEASURES},
        }
        for place in range(len(facts["inputs"]))
    ]


def _of_input(place: int, measure: str, found: Arrays, latents: Arrays) -> dict[str, Any]:
    """What one input correlates with: its best latents, the best unit, and how large |r| gets under the null."""
    r = found[measure][place]
    best = [
        {
            "latent": int(latent),
            "r": float(r[latent]),
            "p": _number(found.get(f"{measure}_p"), place, latent),
            "adjusted_p": _number(found.get(f"{measure}_adjusted_p"), place, latent),
            "density": float(latents["density"][latent]),
            "active_rows": int(latents["active_rows"][latent]),
        }
        for latent in order_by(np.abs(r))[:BEST]
    ]
    own = found[f"unit_{measure}"][place]
    unit = int(np.abs(own).argmax())
    return {
        "max": float(np.abs(r).max()),
        "mean": float(np.abs(r).mean()),
        "best": best,
        "null": _quantiles(found, measure, place),
        "unit": {
            "unit": unit,
            "r": float(own[unit]),
            "adjusted_p": _number(found.get(f"unit_{measure}_adjusted_p"), place, unit),
            "null": _quantiles(found, f"unit_{measure}", place),
        },
    }


def _quantiles(found: Arrays, name: str, place: int) -> dict[str, float] | None:
    """Of the largest |r| of a draw."""
    own = found.get(f"{name}_null")
    if own is None:
        return None
    return {f"q{100 * level:g}": float(value) for level, value in zip(QUANTILES, own[place], strict=True)}


def _held_out(store: Groups) -> dict[str, Any] | None:
    if not store.has("held_out"):
        return None
    found, facts = store.group("held_out"), store.attributes
    entries = []
    for row, place in enumerate(found["input"]):
        entries.append({"name": facts["inputs"][place]["name"]})
        for side, one in SINGULAR.items():
            ends = {end: float(found[f"{one}_{end}"][row]) for end in ("validation", "value", "low", "high")}
            entries[-1][side] = {one: int(found[one][row]), **ends}
        entries[-1]["difference"] = {end: float(found[f"difference_{end}"][row]) for end in ("value", "low", "high")}
    return {**facts["held_out"], "inputs": entries}


def _number(values: np.ndarray | None, row: int, column: int) -> float | None:
    """JSON has no NaN: None where a number is not known."""
    return None if values is None or np.isnan(values[row, column]) else float(values[row, column])


def _least(p: np.ndarray) -> np.ndarray:
    """(inputs,) the smallest of each row; NaN where all are."""
    return np.where(np.isnan(p), np.inf, p).min(1, initial=np.inf) * np.where(np.isnan(p).all(1), np.nan, 1)
