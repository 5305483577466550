"""Sums over rows about the latents of two SAEs at once: what correlations and co-activity are made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class JointMoments:
    """Correlation of every latent of one SAE with every latent of another, row batch by row batch.

    Memory: one float64 (a, b) matrix.
    """

    def __init__(self, a: int, b: int) -> None:
        self._n = 0
        self._sums = [torch.zeros(a, dtype=torch.float64), torch.zeros(b, dtype=torch.float64)]
        self._squares = [torch.zeros_like(total) for total in self._sums]
        self._products = torch.zeros(a, b, dtype=torch.float64)

    def add(self, first: Tensor, second: Tensor) -> None:
        """Latents of the same rows, (n, a) and (n, b)."""
        self._n += len(first)
        for number, latents in enumerate((first, second)):
            self._sums[number] += latents.sum(0, dtype=torch.float64).cpu()
            self._squares[number] += latents.square().sum(0, dtype=torch.float64).cpu()
        self._products += (first.T @ second).double().cpu()

    def correlations(self) -> np.ndarray:
        """Pearson correlations, float32 (a, b); 0 for a latent that does not vary."""
        means = [total / self._n for total in self._sums]
        deviations = [
            (square / self._n - mean.square()).clamp_min(0).sqrt()
            for square, mean in zip(self._squares, means, strict=True)
        ]
        covariance = (self._products / self._n).addr_(means[0], means[1], alpha=-1)
        scale = torch.outer(*deviations)
        return torch.where(scale > 0, covariance / scale, 0.0).clamp_(-1, 1).float().numpy()
