"""The units that compete for a label: latents of SAEs, neurons, principal components. All are columns over rows.

Latents are mostly 0 and kept sparse: at any time one block of rows or columns is dense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from policylens.sae.base import SAE
from policylens.statistics.directions import isotropic

BATCH_ROWS = 4096

Values = np.ndarray | scipy.sparse.csc_array
Activations = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Units:
    """Candidates of one method.

    values: split -> (n, units), dense or sparse. facts: what is to be recorded of them (their number stands apart).
    """

    values: Mapping[str, Values]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.values["train"].shape[1]


def columns(values: Values, chosen: slice | np.ndarray) -> np.ndarray:
    """Some columns as a dense (n, k) array."""
    found = values[:, chosen]
    return found.toarray() if scipy.sparse.issparse(found) else np.asarray(found)


@torch.no_grad()
def latents(sae: SAE, activations: np.ndarray) -> scipy.sparse.csc_array:
    """What each latent contributes, f ||W_dec|| with the sign of f, (n, m) float32; activations (n, d)."""

    def contributions(x: Tensor) -> Tensor:
        f = sae.encode(x)
        return sae.strength(f).copysign(f)

    return _sparse(activations, contributions, sae.device)


def _sparse(
    activations: np.ndarray, encode: Callable[[Tensor], Tensor], device: torch.device | str = "cpu"
) -> scipy.sparse.csc_array:
    rows = torch.from_numpy(activations)
    parts = [scipy.sparse.csr_array(encode(x.to(device)).cpu().numpy()) for x in rows.split(BATCH_ROWS)]
    return scipy.sparse.csc_array(scipy.sparse.vstack(parts))


def sae_units(sae: SAE, activations: Activations) -> Units:
    """The latents of an SAE. Facts: l0, active latents per training row."""
    found = {split: latents(sae, rows) for split, rows in activations.items()}
    return Units(found, {"l0": l0(sae, activations["train"])})


@torch.no_grad()
def l0(sae: SAE, activations: np.ndarray) -> float:
    """Mean number of active latents per row."""
    rows = torch.from_numpy(activations)
    total = sum(int(sae.active(sae.encode(x.to(sae.device))).sum()) for x in rows.split(BATCH_ROWS))
    return total / len(rows)


def neurons(activations: Activations) -> Units:
    """The site's own units: one per dimension of the activation."""
    return Units(dict(activations))


def random_units(activations: Activations, count: int, per_row: float, seed: int) -> Units:
    """An SAE that has learnt nothing: random directions, and in every row only the largest few of them.

    count: directions, uniform on the sphere. per_row: L0 to match; the whole number next to it is kept, at least 1.
    Activations are centred by the training rows' mean first, since a shared offset would make the same few directions
    the largest in every row.
    """
    directions = torch.from_numpy(isotropic(count, activations["train"].shape[1], seed).astype(np.float32))
    mean = torch.from_numpy(activations["train"].mean(0))
    k = min(count, max(1, round(per_row)))

    def encode(x: Tensor) -> Tensor:
        projected = (x - mean) @ directions.T
        largest, places = projected.topk(k, dim=1, sorted=False)
        return torch.zeros_like(projected).scatter(1, places, largest.clamp_min(0))

    found = {split: _sparse(rows, encode) for split, rows in activations.items()}
    return Units(found, {"l0": found["train"].nnz / len(activations["train"])})


@dataclass(frozen=True)
class Components:
    """Principal components of training rows. axes: (d, d), a column each, largest variance first. shares: (d,)."""

    mean: np.ndarray
    axes: np.ndarray
    shares: np.ndarray


def principal_components(train: np.ndarray) -> Components:
    """Components of (n, d) rows; shares of the variance sum to 1. Signs: each axis' largest entry is positive."""
    mean = train.mean(0, dtype=np.float64)
    centred = train - mean.astype(np.float32)
    variances, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(train))
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return Components(mean, axes, variances / max(variances.sum(), np.finfo(float).tiny))


def component_units(found: Components, activations: Activations, explained_variance: float | None = None) -> Units:
    """The first components, as many as explain at least so much of the training rows' variance (None: all)."""
    reached = np.cumsum(found.shares)
    count = len(reached)
    if explained_variance is not None:
        count = min(count, int(np.searchsorted(reached, explained_variance - 1e-9)) + 1)
    axes, mean = found.axes[:, :count].astype(np.float32), found.mean.astype(np.float32)
    return Units(
        {split: (rows - mean) @ axes for split, rows in activations.items()},
        {"explained_variance": float(reached[count - 1])},
    )


@torch.no_grad()
def explained_variance(sae: SAE, activations: np.ndarray, targets: np.ndarray) -> float:
    """1 - sum ||y - y_hat||^2 / sum ||y - mean||^2, y the targets (n, d_out): for an autoencoder the activations."""
    error = sum(
        float((y.to(sae.device) - sae(x.to(sae.device))).square().sum(dtype=torch.float64))
        for x, y in zip(
            torch.from_numpy(activations).split(BATCH_ROWS), torch.from_numpy(targets).split(BATCH_ROWS), strict=True
        )
    )
    return 1 - error / float(np.square(targets - targets.mean(0), dtype=np.float64).sum())
