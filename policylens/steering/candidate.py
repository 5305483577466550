"""A candidate of a steering study: something to steer, and what is done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from policylens.policies.editing import OnKinds
from policylens.policies.protocol import Edit
from policylens.steering.edits import Steering
from policylens.steering.moves import Move
from policylens.steering.targets import Target


@dataclass(frozen=True)
class Candidate:
    """A target and what is done to it.

    beside: the same target's parts at other sites, changed in the same way. kinds: of tokens that are changed, names of
    TOKEN_KINDS; all positions if empty.
    """

    target: Target
    move: Move
    beside: tuple[Target, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As results are called."""
        return f"{self.target.name}-{self.move.name}"

    @property
    def targets(self) -> tuple[Target, ...]:
        """All parts, one per site."""
        return (self.target, *self.beside)

    def edits(self, seed: int, along: Mapping[str, np.ndarray] | None = None) -> dict[str, Edit]:
        """Site -> edit. seed: of rows that `resample` draws, the same at all sites. along: controls', site -> (d,)."""
        vectors = {} if along is None else {site: torch.from_numpy(vector) for site, vector in along.items()}
        found = {one.site: Steering(one, self.move, seed, vectors.get(one.site)) for one in self.targets}
        return {site: OnKinds(edit, self.kinds) for site, edit in found.items()} if self.kinds else found
