"""The output that a circuit is of: how much it changes from one pass to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from policylens.errors import UserError
from policylens.interventions.outcomes import KL, VALUE
from policylens.interventions.sums import Sums
from policylens.policies.protocol import Pass


@dataclass(frozen=True)
class Output:
    """outcome: "kl", "value" or an output of the policy's head. unit: one of its units; None: all of them."""

    outcome: str
    unit: int | None = None

    @property
    def name(self) -> str:
        """As figures and texts call it: "value", "mu[3]"."""
        return self.outcome if self.unit is None else f"{self.outcome}[{self.unit}]"

    @property
    def measure(self) -> str:
        """What a distance is, in words."""
        return "KL(unchanged || changed), nats" if self.outcome == KL else "squared change, summed over units"

    def check(self, result: Pass) -> None:
        """UserError unless the policy has this output."""
        known = [KL, *([VALUE] if result.value is not None else []), *result.heads.outputs()]
        if self.outcome not in known:
            raise UserError(f"output: the policy has no outcome {self.outcome!r}; it has: {', '.join(known)}")
        width = 1 if self.outcome in (KL, VALUE) else result.heads.outputs()[self.outcome].shape[1]
        if self.unit is not None and self.unit >= width:
            raise UserError(f"output: {self.outcome!r} has no unit {self.unit}; its units are 0 to {width - 1}")

    def distance(self, before: Pass, after: Pass) -> np.ndarray:
        """(n,) float64: KL, or the squared change summed over units."""
        if self.outcome == KL:
            return before.heads.divergence(after.heads).double().cpu().numpy()
        change = self._values(after).double() - self._values(before).double()
        return (change**2).sum(1).cpu().numpy()

    def sizes(self, before: Pass, after: Pass) -> np.ndarray:
        """(n,) float64: KL, or |change| summed over units."""
        if self.outcome == KL:
            return self.distance(before, after)
        return (self._values(after).double() - self._values(before).double()).abs().sum(1).cpu().numpy()

    def effects(self, sums: Mapping[str, Sums], n_rows: int) -> np.ndarray:
        """(k,) mean over rows of |effect| summed over units, of changes whose effects were added up."""
        size = sums[self.outcome].size
        return (size.sum(1) if self.unit is None else size[:, self.unit]) / n_rows

    def signs(self, sums: Mapping[str, Sums]) -> np.ndarray | None:
        """(k,) sign of the mean effect, of an output of one unit; None of several, and of KL, which only rises."""
        signed = sums[self.outcome].signed
        if self.outcome == KL or (self.unit is None and signed.shape[1] > 1):
            return None
        return np.sign(signed[:, self.unit or 0])

    def _values(self, result: Pass) -> Tensor:
        if self.outcome == VALUE:
            return result.value.reshape(-1, 1)
        found = result.heads.outputs()[self.outcome]
        return found if self.unit is None else found[:, self.unit : self.unit + 1]
