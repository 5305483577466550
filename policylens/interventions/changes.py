"""What is changed in the activation of a site, by how much, and where to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Add = Callable[[int, np.ndarray, dict[str, np.ndarray]], None]
"""Takes the number of a change, its rows (b,) and their outcomes, name -> (b, units)."""


@dataclass(frozen=True)
class Changes:
    """k changes, each of which follows one latent: the activation is moved by amounts[k] * directions[k].

    amounts: (k, n, positions) in the pass without changes: per * (wanted - measured), times the row's spread for an SAE
    with `row_norm`. directions: (k, d), in the activation's units (those of normalised rows for such an SAE). latents:
    (k,) their numbers. per: 1, or the norm of the latent's direction where another direction of norm 1 stands in its
    place.
    """

    amounts: Tensor
    directions: Tensor
    latents: np.ndarray
    per: float
