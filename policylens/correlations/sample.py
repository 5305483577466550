"""Rows of one split with everything that is correlated in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policylens.correlations.columns import Values

SIDES = ("latents", "units")
"""What competes for an input: the SAE's latents, and the activation's own units."""


@dataclass(frozen=True)
class Sample:
    """Rows episode by episode, each in time order.

    inputs: (n, k), NaN where not known. sides: "latents" and "units" -> (n, candidates). episodes: (n,) ascending.
    """

    inputs: np.ndarray
    sides: Mapping[str, Values]
    episodes: np.ndarray
