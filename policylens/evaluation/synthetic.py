"""Activations whose features are known: sparse features in superposition, to see whether an SAE finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from policylens.errors import UserError
from policylens.statistics import checks


@dataclass(frozen=True)
class Superposition:
    """How activations are made.

        x = sum_j a_j s_j F_j + noise

    width: dimensions d of the activation. features: how many directions F_j there are; up to d they are orthogonal,
    more are drawn uniformly from the sphere.
    l0: mean number of active features per row. Feature j is active (a_j = 1) where a standard normal z_j exceeds the
    quantile that makes its rate l0 / features.
    correlation, group: z_j = sqrt(correlation) u + sqrt(1 - correlation) v_j with u shared by the `group` features of
    a group: a Gaussian copula, in which features of a group tend to be active together.
    s_j: strength, uniform on [0.5, 1.5]. noise: standard deviation of the isotropic noise per dimension, as a share
    of the features' own root mean square per dimension.
    """

    width: int
    features: int
    l0: float
    correlation: float = 0.0
    group: int = 8
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no such distribution."""
        checks.count(self.width, "width", 2)
        checks.count(self.features, "features", 2)
        checks.count(self.group, "group", 1)
        if not 0 < self.l0 < self.features:
            raise UserError(f"l0: must lie strictly between 0 and features = {self.features}, got {self.l0}")
        if not 0 <= self.correlation < 1:
            raise UserError(f"correlation: must be at least 0 and less than 1, got {self.correlation}")
        if self.noise < 0:
            raise UserError(f"noise: must be at least 0, got {self.noise}")

    def directions(self, seed: int) -> np.ndarray:
        """The features' directions, unit vectors float32 (features, width)."""
        drawn = np.random.default_rng([seed, 0]).standard_normal((self.features, self.width))
        if self.features <= self.width:
            drawn = np.linalg.qr(drawn.T)[0].T
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def activations(self, rows: int, seed: int) -> np.ndarray:
        """Activations, float32 (rows, width)."""
        directions = self.directions(seed)
        rng = np.random.default_rng([seed, 1])
        strengths = np.where(self._active(rows, rng), rng.uniform(0.5, 1.5, (rows, self.features)), 0)
        signal = strengths.astype(np.float32) @ directions
        deviation = self.noise * np.sqrt(np.square(signal, dtype=np.float64).mean())
        return signal + (deviation * rng.standard_normal(signal.shape)).astype(np.float32)

    def _active(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        own = rng.standard_normal((rows, self.features))
        if self.correlation:
            groups = -(-self.features // self.group)
            shared = np.repeat(rng.standard_normal((rows, groups)), self.group, axis=1)[:, : self.features]
            own = np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * own
        return own > ndtri(1 - self.l0 / self.features)
