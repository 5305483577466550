"""All that is measured at a site: correlations of inputs with latents and units, their null, and held-out scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.correlations.measure import MEASURES, Group, groups_of, prepared
from policylens.correlations.null import Null, arrangements, draws_of, enough_shifts, shift_null
from policylens.correlations.sample import Sample
from policylens.errors import UserError

Arrays = dict[str, np.ndarray]
QUANTILES = (0.5, 0.95, 0.99)
"""Of the null's largest |r| of any column."""
PREFIXES = {"latents": "", "units": "unit_"}
"""Of the names of arrays."""
UNSEEN = "known in rows of fewer than 2 episodes"
TOO_SHORT = "its rows allow fewer than 20 different shifts within episodes"


@dataclass
class Study:
    """What was measured.

    kept: places of the inputs that are measured. left_out: (place, why) of the others. by_input: a row per kept input:
    docs/formats.md lists the arrays. shifted: what the shifts were; None where there were none.
    """

    kept: np.ndarray
    left_out: list[tuple[int, str]]
    by_input: Arrays
    shifted: dict[str, Any] | None


def study(sample: Sample, shifts: int, seed: int) -> Study:
    """Correlations of every input with every latent and unit, and their null of so many shifts (0: none).

    Raises UserError where no input can be measured.
    """
    groups = groups_of(sample.inputs)
    reasons = {
        place: why for group in groups if (why := _unfit(group, sample.episodes, shifts)) for place in group.places
    }
    kept = np.array([place for place in range(sample.inputs.shape[1]) if place not in reasons], dtype=np.int64)
    if len(kept) == 0:
        why = "; ".join(sorted(set(reasons.values())))
        raise UserError(f"no input can be measured ({why}); set shifts: 0, or record longer episodes")
    whole = _blank(sample, shifts)
    for group in groups:
        if group.places[0] not in reasons:
            _measure(sample, group, shifts, seed, whole)
    return Study(
        kept,
        [(int(place), reasons[place]) for place in sorted(reasons)],
        {name: values[kept] for name, values in whole.items()},
        _shifted(sample.episodes, shifts),
    )


def _unfit(group: Group, episodes: np.ndarray, shifts: int) -> str | None:
    """Why the inputs of a group support no statement, or None."""
    lengths = np.unique(episodes[group.rows], return_counts=True)[1]
    if len(lengths) < 2:
        return UNSEEN
    return TOO_SHORT if shifts and not enough_shifts(lengths) else None


def _blank(sample: Sample, shifts: int) -> Arrays:
    """The arrays to be filled, by name."""
    k = sample.inputs.shape[1]
    arrays: Arrays = {"rows": np.zeros(k, np.int64), "episodes": np.zeros(k, np.int64), "constant": np.zeros(k, bool)}
    for side, values in sample.sides.items():
        for measure in MEASURES:
            name = PREFIXES[side] + measure
            arrays[name] = np.zeros((k, values.shape[1]))
            if shifts:
                arrays |= {f"{name}_{part}": np.full((k, values.shape[1]), np.nan) for part in ("p", "adjusted_p")}
                arrays[f"{name}_null"] = np.full((k, len(QUANTILES)), np.nan)
    return arrays


def _measure(sample: Sample, group: Group, shifts: int, seed: int, whole: Arrays) -> None:
    episodes, places = sample.episodes[group.rows], group.places
    whole["rows"][places], whole["episodes"][places] = len(episodes), len(np.unique(episodes))
    own = sample.inputs[np.ix_(group.rows, places)]
    whole["constant"][places] = (own == own[0]).all(0)
    draws = draws_of(episodes, shifts, seed) if shifts else None
    for side, values in sample.sides.items():
        for measure, pair in prepared(sample.inputs, values, group):
            name = PREFIXES[side] + measure
            whole[name][places] = pair.correlations
            if draws is not None:
                _keep(whole, name, places, shift_null(pair, draws))


def _keep(whole: Arrays, name: str, places: np.ndarray, null: Null) -> None:
    whole[f"{name}_p"][places], whole[f"{name}_adjusted_p"][places] = null.p, null.adjusted_p
    whole[f"{name}_null"][places] = np.quantile(null.largest, QUANTILES, axis=0).T


def _shifted(episodes: np.ndarray, shifts: int) -> dict[str, Any] | None:
    """What the record says of the shifts: an episode of n rows has n different ones, the unshifted among them."""
    if not shifts:
        return None
    lengths = np.unique(episodes, return_counts=True)[1]
    return {
        "scheme": "circular shifts within episodes",
        "shifts": shifts,
        "n_episodes": len(lengths),
        "rows_per_episode": {
            "least": int(lengths.min()),
            "median": float(np.median(lengths)),
            "most": int(lengths.max()),
        },
        "log10_different": arrangements(lengths),
    }
