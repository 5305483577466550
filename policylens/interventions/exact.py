"""Exact effects of changing single latents, at the cost of the rows that change.

A latent's change moves the activation by (wanted - f_i) W_dec,i: nothing else, for decoders are linear (for an SAE with
`row_norm` times the spread that the row has without the change). Rows in which wanted and measured value agree stay as
they are, and so does everything that follows from them: their effect is 0 and need not be computed. What remains are
pairs of a latent and a row; many pairs, of several latents, make one batch, which runs through the rest of the network
alone. Where the first thing in that rest is a linear map, it is applied to the directions, once, and not to every pair.
The result is that of one whole pass per latent, up to the rounding of sums (docs/interventions.md derives it).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from policylens.interventions.changes import Add, Changes
from policylens.interventions.modes import Mode
from policylens.interventions.moves import moved
from policylens.interventions.outcomes import as_arrays
from policylens.interventions.recurrent import every_episode
from policylens.interventions.subject import Subject
from policylens.interventions.sums import Sums
from policylens.sae.parallel import in_parts, over_edges, threads

BATCH_NUMBERS = 1 << 20
"""Numbers of a batch at the widest place it goes through: it should stay in the processor's cache."""

BLOCK_NUMBERS = 1 << 23
"""Latents are taken in blocks of so many values, all rows of a latent at once."""


def block_size(subject: Subject) -> int:
    """How many latents make a block."""
    n, positions, _ = subject.latents.shape
    return max(1, BLOCK_NUMBERS // (n * positions))


def measure(subject: Subject, mode: Mode, latents: np.ndarray) -> tuple[dict[str, Sums], np.ndarray]:
    """Effects of changing each of some latents: outcome -> sums, and the number of rows that each changes, (k,)."""
    return summed(subject, mode, changes_of(subject, mode, latents), rows=subject.n_rows)


def changes_of(subject: Subject, mode: Mode, latents: np.ndarray) -> Changes:
    """Each latent changed as the mode says."""
    change = mode.change(latents, subject.latents, subject.donors)
    amounts = torch.from_numpy(np.ascontiguousarray(change.transpose(2, 0, 1)))
    if subject.spread is not None:
        amounts = amounts * subject.spread
    directions = subject.sae.W_dec[torch.from_numpy(latents).to(subject.sae.device)]
    return Changes(amounts, directions, latents, 1.0)


def summed(subject: Subject, mode: Mode, changes: Changes, rows: int = 0) -> tuple[dict[str, Sums], np.ndarray]:
    """Effects of moving the activation by amounts[k, row, position] * directions[k]: outcome -> sums; rows changed.

    rows: n, for sums with all they can hold.
    """
    before, amounts = subject.baseline(mode.keep_error).outcomes, changes.amounts
    found = {name: Sums.zeros(len(amounts), values.shape[1], rows) for name, values in before.items()}
    signs = amounts.sum(2).sign().double().cpu().numpy() if rows else [None] * len(amounts)

    def add(number: int, rows: np.ndarray, after: dict[str, np.ndarray]) -> None:
        for name, sums in found.items():
            sums.add(after[name], before[name], rows, number, subject.episodes, signs[number])

    counts = every_pair(subject, mode, changes, add)
    return found, counts


def every_pair(subject: Subject, mode: Mode, changes: Changes, add: Add) -> np.ndarray:
    """Run every pair of a change and a row it changes, and hand the outcomes over; returns rows per change, (k,).

    Changes are shared out among torch's threads. `add` gets each change's rows in ascending order, an episode's
    together, and is called by one thread for one change. Where the policy is recurrent, see `recurrent.py`.
    """
    if subject.recurrent:
        return every_episode(subject, mode, changes, add)
    amounts, directions = changes.amounts, subject.along(changes.directions)
    which, rows = (part.numpy() for part in (amounts != 0).any(2).nonzero(as_tuple=True))
    counts = np.bincount(which, minlength=len(amounts))

    def part(first: int, last: int) -> None:
        start, stop = np.searchsorted(which, [first, last])
        for piece in _batches(subject, which[start:stop], rows[start:stop]):
            _run(subject, mode, amounts, directions, which[start:stop][piece], rows[start:stop][piece], add)

    with in_parts():
        over_edges(part, _edges(counts, threads()))
    return counts


@torch.no_grad()
def _run(
    subject: Subject, mode: Mode, changes: Tensor, directions: Tensor, which: np.ndarray, rows: np.ndarray, add: Add
) -> None:
    """One batch of pairs."""
    baseline, at, of = subject.baseline(mode.keep_error), torch.from_numpy(rows), torch.from_numpy(which)
    place = at.to(baseline.start.device)
    activation = moved(baseline.start, place, directions, of, changes[of, at])
    result = subject.resumed(subject.start, place, activation, subject.outcomes.sites)
    after = as_arrays(subject.outcomes.of(result, baseline.heads.rows(place)))
    edges = np.flatnonzero(np.r_[True, which[1:] != which[:-1], True])
    for start, stop in zip(edges, edges[1:], strict=False):
        mine = slice(start, stop)
        add(int(which[start]), rows[mine], {name: values[mine] for name, values in after.items()})


def _batches(subject: Subject, which: np.ndarray, rows: np.ndarray) -> Iterator[slice]:
    """Pairs cut into batches where a change or an episode ends."""
    size = _batch_rows(subject)
    episodes = subject.episodes.of_row[rows]
    ends = np.flatnonzero(np.r_[(which[1:] != which[:-1]) | (episodes[1:] != episodes[:-1]), len(which) > 0]) + 1
    start = 0
    while start < len(which):
        reach = np.searchsorted(ends, start + size, side="right") - 1
        stop = ends[reach] if reach >= 0 and ends[reach] > start else ends[np.searchsorted(ends, start, side="right")]
        yield slice(start, int(stop))
        start = int(stop)


def _batch_rows(subject: Subject) -> int:
    widest = max(values.shape[1] for values in subject.baseline(True).outcomes.values())
    per_row = max(widest, subject.activation[0].numel())
    return max(64, BATCH_NUMBERS // per_row)


def _edges(counts: np.ndarray, parts: int) -> list[int]:
    """Where to cut the changes so that each part has about as many pairs."""
    ends = np.cumsum(counts)
    inner = [int(np.searchsorted(ends, ends[-1] * part / parts)) for part in range(1, parts)] if len(ends) else []
    return sorted({0, *inner, len(counts)})
