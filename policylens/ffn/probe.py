"""How strongly every unit of feed-forward layers answers, over many rows and tokens, in one streamed pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Batch, Policy
from policylens.policies.sites import Site
from policylens.progress import progress

PIECE_VALUES = 2**24
"""Activations are looked at so many at a time: what that takes in memory does not grow with the batch."""

Coordinates = tuple[np.ndarray, np.ndarray]
"""Episode and step of every row of a batch, (n,) each."""


@dataclass
class Strengths:
    """What was seen of a site's units so far. All arrays are (width,) unless stated; places are of the first of equals.

    largest: max |a|. value: the activation there, with its sign. episode, step, token: where that was; token counts
    the site's positions in C order. total: sum of |a|. above: number of positions with |a| of at least `minimum`.
    halves: (2, width) max |a| over episodes of even and of odd number. positions: valid positions seen. rows: rows.
    """

    width: int
    minimum: float
    largest: np.ndarray = field(init=False)
    value: np.ndarray = field(init=False)
    episode: np.ndarray = field(init=False)
    step: np.ndarray = field(init=False)
    token: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)
    above: np.ndarray = field(init=False)
    halves: np.ndarray = field(init=False)
    positions: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        self.largest = np.full(self.width, -1.0, np.float32)
        self.value = np.zeros(self.width, np.float32)
        self.episode, self.step, self.token = (np.full(self.width, -1, np.int64) for _ in range(3))
        self.total = np.zeros(self.width)
        self.above = np.zeros(self.width, np.int64)
        self.halves = np.full((2, self.width), -1.0, np.float32)

    def add(self, activation: Tensor, valid: Tensor | None, coordinates: Coordinates) -> None:
        """Take in a batch. activation: (n, positions, width). valid: (n, positions) bool, None for all."""
        step = max(1, PIECE_VALUES // max(1, activation.shape[1] * activation.shape[2]))
        for start in range(0, len(activation), step):
            piece = slice(start, start + step)
            episodes, steps = (values[piece] for values in coordinates)
            self._add(activation[piece], None if valid is None else valid[piece], episodes, steps)

    def _add(self, activation: Tensor, valid: Tensor | None, episodes: np.ndarray, steps: np.ndarray) -> None:
        n, positions, _ = activation.shape
        flat = activation.reshape(n * positions, self.width)
        sizes = flat.abs().float()
        if valid is not None:
            sizes = torch.where(valid.reshape(-1, 1).to(sizes.device), sizes, -1.0)
        kept = n * positions if valid is None else int(valid.sum())
        self.rows, self.positions = self.rows + n, self.positions + kept
        if not kept:
            return
        self.total += sizes.clamp(min=0).sum(0, dtype=torch.float64).cpu().numpy()
        self.above += ((sizes >= self.minimum) & (sizes >= 0)).sum(0).cpu().numpy()
        largest, places = sizes.max(0)  # of equals the first, as torch promises; NaN where any is
        if not largest.isfinite().all():
            raise UserError("the activation is NaN or infinite; mend what made it, or leave the rows out")
        signed = flat.gather(0, places[None])[0].float().cpu().numpy()
        self._keep(largest.cpu().numpy(), signed, places.cpu().numpy(), positions, episodes, steps)
        for half in (0, 1):
            own = torch.from_numpy(np.repeat(episodes % 2 == half, positions)).to(sizes.device)
            if own.any():
                np.maximum(self.halves[half], sizes[own].amax(0).cpu().numpy(), out=self.halves[half])

    def _keep(
        self,
        largest: np.ndarray,
        signed: np.ndarray,
        places: np.ndarray,
        positions: int,
        episodes: np.ndarray,
        steps: np.ndarray,
    ) -> None:
        """Take over what is larger than anything before."""
        more = largest > self.largest
        rows, tokens = places[more] // positions, places[more] % positions
        self.largest[more], self.value[more] = largest[more], signed[more]
        self.episode[more], self.step[more], self.token[more] = episodes[rows], steps[rows], tokens

    def arrays(self) -> dict[str, np.ndarray]:
        """As the store has them, (width, ...) each."""
        seen = max(1, self.positions)
        return {
            "unit": np.arange(self.width),
            "max_abs": self.largest,
            "max_value": self.value,
            "episode": self.episode,
            "step": self.step,
            "token": self.token,
            "mean_abs": self.total / seen,
            "share_above": self.above / seen,
            "max_abs_halves": np.ascontiguousarray(self.halves.T),
        }


def check_units(policy: Policy, sites: Sequence[str]) -> list[Site]:
    """The sites in the order of computation.

    UserError for one that has no value vectors, and for a recurrent policy.
    """
    if policy.recurrent:
        raise UserError("the policy is recurrent: rows cannot be run without the states of the steps before them")
    if unknown := [name for name in sites if name not in policy.sites]:
        raise UserError(f"the policy has no site {unknown[0]!r}; it has {', '.join(policy.sites)}")
    with_vectors = [name for name in policy.sites if policy.value_vectors(name) is not None]
    for name in sites:
        if name not in with_vectors:
            there = ", ".join(with_vectors) or "none"
            raise UserError(f"the site {name!r} is not of a feed-forward layer's hidden units; those are: {there}")
    return [site for name, site in policy.sites.items() if name in set(sites)]


def probe(
    policy: Policy,
    sites: Sequence[Site],
    batches: Iterable[tuple[Batch, Coordinates]],
    minimum: float,
    total: int | None = None,
) -> dict[str, Strengths]:
    """Run the policy over batches up to the last site and note how strongly every unit answers.

    minimum: what `share_above` counts. total: number of batches, where known. A site is looked at as the pass comes by
    it, so that at no time more than one site's activation is kept. Raises UserError for activations that are not
    finite.
    """
    found = {site.name: Strengths(site.width, minimum) for site in sites}
    last = sites[-1].name
    for batch, coordinates in progress(batches, total, "looking at hidden units", "batches"):
        valid = {site.name: policy.valid(site.name, batch) for site in sites}
        with torch.inference_mode():
            edits = {name: _watcher(name, found[name], valid[name], coordinates) for name in found}
            policy.run(batch, edit=edits, stop_after=last)
    return found


def _watcher(name: str, strengths: Strengths, valid: Tensor | None, coordinates: Coordinates):
    """An edit that changes nothing and takes note, each time that a pass comes by the site."""

    def look(activation: Tensor) -> Tensor:
        n, width = len(activation), activation.shape[-1]
        flags = None if valid is None else valid.reshape(n, -1)
        try:
            strengths.add(activation.reshape(n, -1, width), flags, coordinates)
        except UserError as error:
            raise UserError(f"site {name!r}: {error}") from None
        return activation

    return look
