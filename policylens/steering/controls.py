"""What a steered candidate is compared with: random directions, and for units as many others, about as active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from policylens.policies.protocol import Edit
from policylens.statistics.directions import CONTROLS
from policylens.steering.candidate import Candidate
from policylens.steering.targets import Target, units_target

UNITS = "units"
"""Kind of control beside those of random directions: other units, changed by the same move."""

KINDS = (*CONTROLS, UNITS)
NEIGHBOURS = 16
"""A unit is replaced by one of so many, or of a sixteenth of the site if that is more, nearest to it in activity."""


@dataclass(frozen=True)
class Controls:
    """count: of each kind. seed: of units and of rows that `resample` draws.

    directions: site -> kind -> unit vectors (count, d). activations: site -> reference rows (rows, *inner, d); targets
    at sites that are not there are not compared with other units.
    """

    count: int
    directions: Mapping[str, Mapping[str, np.ndarray]]
    activations: Mapping[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def kinds(self, candidate: Candidate) -> tuple[str, ...]:
        """Kinds of controls that a candidate has. Units have others only where those are at least as many."""
        if not self.count:
            return ()
        others = all(
            one.units and one.site in self.activations and 2 * len(one.units) <= len(self.activity[one.site])
            for one in candidate.targets
        )
        return KINDS if others else CONTROLS

    def edits(self, candidate: Candidate, kind: str, number: int) -> dict[str, Edit]:
        """Site -> edit of one control."""
        if kind != UNITS:
            along = {one.site: self.directions[one.site][kind][number] for one in candidate.targets}
            return candidate.edits(self.seed, along)
        generator = np.random.default_rng([self.seed, number])
        first, *beside = (self._others(one, generator) for one in candidate.targets)
        return replace(candidate, target=first, beside=tuple(beside)).edits(self.seed)

    @cached_property
    def activity(self) -> dict[str, np.ndarray]:
        """Site -> (d,) mean square of each unit over the reference rows and positions."""
        flat = {site: rows.reshape(-1, rows.shape[-1]) for site, rows in self.activations.items()}
        # Summed in float64 without a copy in it: rows of all sites may fill the memory as they are.
        return {site: np.einsum("nd,nd->d", rows, rows, dtype=np.float64) / len(rows) for site, rows in flat.items()}

    def _others(self, target: Target, generator: np.random.Generator) -> Target:
        units = drawn_units(target.units, self.activity[target.site], generator)
        return units_target(target.name, target.site, units, self.activations[target.site], self.device)


def called(kind: str) -> str:
    """What controls of a kind are, in texts and figures."""
    return "random sets of units" if kind == UNITS else f"{kind} directions"


def drawn_units(units: tuple[int, ...], activity: np.ndarray, generator: np.random.Generator) -> list[int]:
    """As many other units of a site: each unit's place is taken by one that is about as active, none twice.

    activity: (d,), at least twice as many as units. One is drawn from the nearest that are free, in order of activity.
    """
    order = np.argsort(activity, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    free = np.ones(len(order), bool)
    free[rank[list(units)]] = False
    near = max(NEIGHBOURS, len(order) // 16)
    found = []
    for unit in units:
        places = np.flatnonzero(free)
        nearest = places[np.argsort(np.abs(places - rank[unit]), kind="stable")[:near]]
        place = generator.choice(nearest)
        free[place] = False
        found.append(int(order[place]))
    return found
