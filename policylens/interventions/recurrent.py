"""Interventions on recurrent policies: what is coupled is the rest of the episode.

A change at one step reaches later steps through the state, and there it finds other latents than the unchanged pass
has: how far a latent is moved is worked out anew, step by step, on what the changed pass gives. Up to the first step in
which the change is not 0 both passes are the same, so that pairs of a change and an episode start there, from the kept
state. Pairs of all changes and episodes that are at the same step make one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from policylens.interventions.changes import Add, Changes
from policylens.interventions.modes import Mode
from policylens.interventions.outcomes import as_arrays
from policylens.policies.protocol import Carry, Edit, Pass, Policy, carry_of_rows, joined_carries
from policylens.sae.latents import encoded

if TYPE_CHECKING:
    from policylens.interventions.subject import Subject

BATCH_NUMBERS = 1 << 22
"""Numbers of outcomes of a group of changes that are kept at once."""


@dataclass(frozen=True)
class Walk:
    """Rows in the order of episodes and steps. first: (E,) row of each episode's first step. lengths: (E,)."""

    first: np.ndarray
    lengths: np.ndarray

    def steps(self) -> Iterator[np.ndarray]:
        """Step by step the numbers of the episodes that have it, ascending."""
        for step in range(int(self.lengths.max())):
            yield np.flatnonzero(self.lengths > step)


@dataclass(frozen=True)
class Unrolled:
    """A pass over whole episodes.

    batch: observations of all rows. states: per step the state before it, of the episodes that have the step; {} at the
    first.
    """

    walk: Walk
    batch: Carry
    states: list[Carry]

    def state(self, step: int, episodes: np.ndarray) -> Carry:
        """The state before a step of some of the episodes that have it."""
        return _rows_of(self.states[step], np.searchsorted(self._having(step), episodes), len(self._having(step)))

    def _having(self, step: int) -> np.ndarray:
        return np.flatnonzero(self.walk.lengths > step)


def unroll(policy: Policy, batch: Mapping[str, Any], walk: Walk, read: Sequence[str]) -> tuple[Unrolled, list[Pass]]:
    """Run every episode from its start; passes step by step. batch: observations of all rows."""
    count, states, passes = int(walk.lengths.sum()), [], []
    before, alive = {}, np.zeros(0, np.int64)
    for step, episodes in enumerate(walk.steps()):
        before = _rows_of(before, np.searchsorted(alive, episodes), len(alive))
        states.append(before)
        found = policy.run(_rows_of(batch, walk.first[episodes] + step, count), before.get("state"), read=read)
        passes.append(found)
        before, alive = {"state": found.state}, episodes
    return Unrolled(walk, dict(batch), states), passes


def row_order(walk: Walk) -> np.ndarray:
    """(n,) where each row stands among the rows of consecutive steps."""
    rows = np.concatenate([walk.first[episodes] + step for step, episodes in enumerate(walk.steps())])
    return np.argsort(rows, kind="stable")


def every_episode(subject: Subject, mode: Mode, changes: Changes, add: Add) -> np.ndarray:
    """Run every pair of a change and an episode it changes; returns rows per change, (k,). See `exact.every_pair`."""
    walk = subject.unrolled.walk
    onsets = _onsets((changes.amounts != 0).any(2).cpu().numpy(), walk)
    counts = np.where(onsets < walk.lengths, walk.lengths - onsets, 0).sum(axis=1)
    for group in _groups(counts, BATCH_NUMBERS // _widest(subject)):
        which, episodes = np.nonzero(onsets[group] < walk.lengths)
        if len(which):
            pairs = _Pairs(group[which], episodes, onsets[group][which, episodes])
            _hand_over(add, *_run(subject, mode, changes, pairs))
    return counts


@dataclass(frozen=True)
class _Pairs:
    """Of changes and episodes: change (p,), episode (p,), and the first step in which the change is not 0, (p,)."""

    change: np.ndarray
    episode: np.ndarray
    onset: np.ndarray


@torch.no_grad()
def _run(
    subject: Subject, mode: Mode, changes: Changes, pairs: _Pairs
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Change, row and outcomes of every row from the onsets on."""
    walk, base = subject.unrolled.walk, subject.unrolled
    lengths = walk.lengths[pairs.episode]
    running, state, found = np.zeros(0, np.int64), {}, []
    for step in range(int(pairs.onset.min()), int(lengths.max())):
        going, joining = running[lengths[running] > step], np.flatnonzero(pairs.onset == step)
        state = _joined(
            [_rows_of(state, np.flatnonzero(lengths[running] > step), len(running)), len(going)],
            [base.state(step, pairs.episode[joining]), len(joining)],
        )
        running = np.concatenate([going, joining])
        if len(running) == 0:
            continue
        rows = walk.first[pairs.episode[running]] + step
        edit = _edit(subject, mode, changes, pairs.change[running], rows)
        batch = _rows_of(base.batch, rows, subject.n_rows)
        result = subject.policy.run(batch, state.get("state"), read=subject.outcomes.sites, edit={subject.site: edit})
        heads = subject.baseline(mode.keep_error).heads.rows(torch.from_numpy(rows))
        found.append((pairs.change[running], rows, as_arrays(subject.outcomes.of(result, heads))))
        state = {"state": result.state}
    which, rows = (np.concatenate([part[place] for part in found]) for place in (0, 1))
    return which, rows, {name: np.concatenate([part[2][name] for part in found]) for name in found[0][2]}


def _edit(subject: Subject, mode: Mode, changes: Changes, which: np.ndarray, rows: np.ndarray) -> Edit:
    """Moves the activation of each pair by what its latent is to be moved there."""
    latents, of = changes.latents[which], subject.latents
    names, place = np.unique(latents, return_inverse=True)
    means, active = (torch.from_numpy(values[latents])[:, None] for values in (of.means, of.active_means))
    donated = torch.from_numpy(of.dense(names)[subject.donors[rows], :, place])
    index, directions = torch.from_numpy(latents), changes.directions[torch.from_numpy(which)]

    def edit(x: Tensor) -> Tensor:
        f = encoded(subject.sae, x)[torch.arange(len(x)), :, index.to(x.device)]
        wanted = mode.wanted(f, *(part.to(f) for part in (means, active, donated)))
        moved = (changes.per * (wanted - f))[:, :, None].to(x) * directions.to(x)[:, None, :]
        spread = subject.sae.spread(x)
        if spread is not None:
            moved = moved * spread.reshape(len(x), -1, 1)
        return x + moved.reshape(x.shape)

    return edit


def _hand_over(add: Add, which: np.ndarray, rows: np.ndarray, after: dict[str, np.ndarray]) -> None:
    """Change by change, rows ascending."""
    order = np.lexsort((rows, which))
    edges = np.flatnonzero(np.r_[True, np.diff(which[order]) != 0, True])
    for start, stop in zip(edges, edges[1:], strict=False):
        mine = order[start:stop]
        add(int(which[mine[0]]), rows[mine], {name: values[mine] for name, values in after.items()})


def _onsets(changed: np.ndarray, walk: Walk) -> np.ndarray:
    """(k, E) the first step of each episode in which each change (k, n) is not 0; far beyond its end if none is."""
    step_of = np.arange(changed.shape[1]) - np.repeat(walk.first, walk.lengths)
    never = np.iinfo(np.int64).max
    return np.minimum.reduceat(np.where(changed, step_of, never), walk.first, axis=1)


def _groups(counts: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Consecutive changes that have about so many rows together, at least one."""
    start = 0
    for stop in range(1, len(counts) + 1):
        if stop == len(counts) or counts[start : stop + 1].sum() > rows:
            yield np.arange(start, stop)
            start = stop


def _widest(subject: Subject) -> int:
    return sum(values.shape[1] for values in subject.baseline(True).outcomes.values())


def _rows_of(carry: Mapping[str, Any], rows: np.ndarray, count: int) -> Carry:
    return carry_of_rows(carry, torch.from_numpy(np.asarray(rows)), count)


def _joined(*parts: list[Any]) -> Carry:
    """States of several groups of pairs as one; a group that has none, or no state yet, is left out."""
    there = [(carry, count) for carry, count in parts if count and carry]
    return joined_carries([carry for carry, _ in there], [count for _, count in there]) if there else {}
