"""What a policy loses by an SAE, over the rows of a capture that are evaluated: rows as steps, or tokens of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.capture.batches import read_batch
from policylens.capture.frames import frames_of
from policylens.capture.tokens import Choice
from policylens.evaluation.fidelity import Piece, fidelity_rows, other_episodes, summarise
from policylens.evaluation.token_fidelity import Frames, token_fidelity_rows
from policylens.policies.protocol import Policy
from policylens.progress import progress
from policylens.sae.activations import Rows, training_mean
from policylens.sae.base import SAE
from policylens.statistics.resampling import Resampling
from policylens.stores.tables import Table

BATCH_ROWS = 2048
"""Rows of a pass, where a row is a step."""
FRAMES = 32
"""Frames of a pass, where a row is a token of one."""


@dataclass(frozen=True)
class Spliced:
    """An SAE, and what it is put in place of.

    site: whose activation it takes. rows: of the capture. recorded: (rows, *inner, d_out), what the capture holds of
    them at the site that is replaced: the same, or a transcoder's output site.
    """

    sae: SAE
    site: str
    capture: Table
    rows: Rows
    recorded: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(d_out,) of the capture's training rows: what mean-ablation puts there."""
        return training_mean(self.capture, self.sae.cfg.output_site or self.site)


def capture_fidelity(policy: Policy, source: Table, spliced: Spliced, resampling: Resampling) -> dict[str, Any]:
    """See `policylens.evaluation.fidelity.summarise`. source: what the capture was made from.

    A capture whose rows are tokens is measured over the frames that they are of. Raises UserError if the capture is
    not of this policy and this source.
    """
    measure = _over_frames if "token" in spliced.capture.names else _over_rows
    rows, episodes = measure(policy, source, spliced, resampling.seed)
    return summarise(rows, episodes, resampling)


Measured = tuple[dict[str, dict[str, np.ndarray]], np.ndarray]
"""Per edit and metric the values, and the episodes that they are of."""


def _over_rows(policy: Policy, source: Table, spliced: Spliced, seed: int) -> Measured:
    rows, recorded = spliced.rows, spliced.recorded
    donors = other_episodes(rows.episodes, seed)

    def pieces() -> Iterator[Piece]:
        for piece in _slices(len(rows.numbers), BATCH_ROWS):
            batch = read_batch(source, policy.observations, rows.numbers[piece])
            yield Piece(batch, recorded[piece], recorded[donors[piece]])

    batches = progress(pieces(), -(-len(rows.numbers) // BATCH_ROWS), "fidelity", "batches")
    return fidelity_rows(policy, spliced.site, spliced.sae, batches, spliced.mean), rows.episodes


def _over_frames(policy: Policy, source: Table, spliced: Spliced, seed: int) -> Measured:
    choice = Choice.of(spliced.capture.attributes["provenance"]["settings"]["tokens"])
    frames = frames_of(spliced.capture, source, spliced.rows.numbers)
    donors = frames.rows[other_episodes(frames.episodes, seed)]

    def pieces() -> Iterator[Frames]:
        for piece in _slices(len(frames.rows), FRAMES):
            batch, others = (read_batch(source, policy.observations, own[piece]) for own in (frames.rows, donors))
            first, last = np.searchsorted(frames.of_row, [piece.start, piece.stop])
            yield Frames(batch, others, spliced.recorded[first:last])

    batches = progress(pieces(), -(-len(frames.rows) // FRAMES), "fidelity", "batches")
    return token_fidelity_rows(policy, spliced.site, spliced.sae, batches, choice, spliced.mean), frames.episodes


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
