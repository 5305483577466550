"""Random directions beside a latent's own: the same rows, the same amounts, another way to go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from policylens.interventions.changes import Changes
from policylens.interventions.exact import changes_of, summed
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.interventions.sums import Episodes, Sums


def strengths(sums: Mapping[str, Sums], episodes: Episodes) -> dict[str, dict[str, np.ndarray]]:
    """Outcome -> how strong each effect is, float64 (k,).

    norm: of the mean effect over rows, as a vector of the outcome's units: what is common to all rows. size: mean over
    rows of the sum over units of |effect|: what happens in any row, whichever way.
    """
    n = episodes.n_rows
    return {
        name: {"norm": np.linalg.norm(found.signed, axis=1) / n, "size": found.size.sum(1) / n}
        for name, found in sums.items()
    }


def control(subject: Subject, mode: Mode, latent: int, unit_vectors: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """`strengths` (count,) of moving the rows that the latent's change moves, as far, in other directions.

    The norm of the move is the same in every row (and position): |wanted - f| ||W_dec||.
    """
    own = changes_of(subject, mode, np.array([latent]))
    vectors, per = torch.from_numpy(unit_vectors).to(subject.activation), float(own.directions.norm())
    amounts = (own.amounts * per).expand(len(vectors), -1, -1)
    sums, _ = summed(subject, mode, Changes(amounts, vectors, np.repeat(own.latents, len(vectors)), per))
    return strengths(sums, subject.episodes)
