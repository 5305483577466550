"""What a latent is changed to. Each mode gives wanted values from measured ones; where they agree, nothing changes.

zero       0
mean       the latent's mean over the rows
resample   its value in a row of another episode, drawn uniformly, at the same position
set        strength times its mean where it is active
add        its value and strength times its mean where it is active
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.interventions.kinds import Numbers, check_kind, wanted
from policylens.sae.latents import Latents


@dataclass(frozen=True)
class Mode:
    """kind: as in `policylens.interventions.kinds`.

    strength: of `set` and `add`, in units of the latent's mean where it is active; else None.

    keep_error: whether what the SAE does not reconstruct stays in the activation; if not, it is left out of the
    intervened and of the baseline pass alike.
    """

    kind: str
    strength: float | None = None
    keep_error: bool = True

    def __post_init__(self) -> None:
        check_kind(self.kind, self.strength)

    @property
    def name(self) -> str:
        """As groups of a store are called: "zero", "set_2", "add_-0p5", "zero_without_error"."""
        strength = "" if self.strength is None else f"_{self.strength:g}".replace(".", "p")
        return f"{self.kind}{strength}{'' if self.keep_error else '_without_error'}"

    def change(self, latents: np.ndarray, of: Latents, donors: np.ndarray) -> np.ndarray:
        """Wanted less measured values, (n, positions, k).

        latents: (k,) their numbers. of: all latents. donors: (n,) a row of another episode for each row.
        """
        f = of.dense(latents)
        return self.wanted(f, of.means[latents], of.active_means[latents], f[donors]) - f

    def wanted(self, f: Numbers, means: Numbers, active_means: Numbers, donated: Numbers) -> Numbers:
        """What values are to become, in their shape; arrays of NumPy or tensors, all of them.

        f: as measured. means, active_means: of the same latents over all rows, and where they are active; broadcast.
        donated: the latents' values in a row of another episode.
        """
        return wanted(self.kind, f, mean=means, unit=active_means, donated=donated, strength=self.strength)


def mode_of(block: str | Mapping[str, Any]) -> Mode:
    """A mode as config.yaml has it: a name, or {kind, strength, keep_error}."""
    return Mode(block) if isinstance(block, str) else Mode(**block)
