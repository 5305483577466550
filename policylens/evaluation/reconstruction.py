"""What an SAE reconstructs, how sparsely, and how often each latent fires."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

BATCH_ROWS = 4096
DENSITY_EDGES = np.round(np.arange(-6, 0.01, 0.25), 2)


class RowTable(NamedTuple):
    """Per evaluated row, float64 (n,), and per latent.

    error: ||x - x_hat||^2. energy: ||x||^2. spread: ||x - mean of the evaluated rows||^2. active: number of active
    latents. strength: sum_i ||W_dec,i|| f_i in the units of the normalised data. loss: the training loss's main part.
    fired: (m,) int64, in how many rows each latent was active.
    """

    error: np.ndarray
    energy: np.ndarray
    spread: np.ndarray
    active: np.ndarray
    strength: np.ndarray
    loss: np.ndarray
    fired: np.ndarray


@torch.no_grad()
def row_table(sae: SAE, activations: np.ndarray, batch_rows: int = BATCH_ROWS) -> RowTable:
    """Run an SAE over raw activations (n, d) float32; memory is bounded by the batch."""
    rows = torch.from_numpy(activations)
    mean = rows.mean(0, dtype=torch.float64).float().to(sae.device)
    parts: list[Tensor] = []
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=sae.device)
    for x in rows.split(batch_rows):
        x = x.to(sae.device)
        f = sae.encode(x)
        strength = sae.strength(f)
        active = strength > sae.cfg.active_threshold
        fired += active.sum(0)
        terms = [(x - sae.decode(f)).square(), x.square(), (x - mean).square(), active, strength * sae.scale]
        parts.append(torch.stack([term.sum(1).float() for term in terms]).cpu().double())
    error, energy, spread, active, strength = torch.cat(parts, dim=1)
    loss = sae.architecture.objective(error * sae.scale**2, strength, sae.cfg.d_in)
    columns = (error, energy, spread, active, strength, loss, fired)
    return RowTable(*(column.cpu().numpy() for column in columns))


def core_metrics(table: RowTable, episodes: np.ndarray, resampling: Resampling) -> dict[str, dict[str, Any]]:
    """Estimates with intervals over episodes, as plain JSON values.

    explained_variance: 1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, the mean over the evaluated rows.
    normalised_mse: sum ||x - x_hat||^2 / sum ||x||^2. l0, l1: active latents and sum of f * ||W_dec|| per row, the
    latter in units of the normalised data. loss: per row, in these units (comparable within one architecture only).
    episodes: (n,) the episode of each row.
    """
    grouped = Clusters.of(episodes)
    sums = {name: grouped.sums(getattr(table, name)) for name in RowTable._fields[:-1]}
    lengths = grouped.lengths.astype(np.float64)
    n = grouped.n_rows
    explained = bootstrap_sums(
        (sums["error"], sums["spread"]), lambda error, spread: 1 - error / spread, resampling, n_rows=n
    )
    found = {
        "explained_variance": explained,
        "normalised_mse": bootstrap_ratio(sums["error"], sums["energy"], resampling, n_rows=n),
        "l0": bootstrap_ratio(sums["active"], lengths, resampling, n_rows=n),
        "l1": bootstrap_ratio(sums["strength"], lengths, resampling, n_rows=n),
        "loss": bootstrap_ratio(sums["loss"], lengths, resampling, n_rows=n),
    }
    return {name: estimate.record() for name, estimate in found.items()}


def density(fired: np.ndarray, n_rows: int) -> dict[str, Any]:
    """Histogram of log10 of the share of rows in which a latent is active; latents never active stand apart.

    The lowest bin also holds densities below its edge.
    """
    alive = fired[fired > 0]
    logarithms = np.clip(np.log10(alive / n_rows), DENSITY_EDGES[0], DENSITY_EDGES[-1])
    counts, _ = np.histogram(logarithms, DENSITY_EDGES)
    return {
        "log10_edges": DENSITY_EDGES.tolist(),
        "latents": counts.tolist(),
        "never_active": int((fired == 0).sum()),
    }


def dead(fired: np.ndarray, n_rows: int, n_episodes: int, level: float = 0.95) -> dict[str, Any]:
    """Latents never active in the evaluated rows, and what that says.

    A latent that fires in a share p of all episodes is missed in all n with probability (1 - p)^n; `rate_below` is
    the p at which that is 1 - level. (A bootstrap has no interval to offer: its resamples leave out a third of the
    episodes, so that every one of them holds more dead latents than the data.)
    """
    count = int((fired == 0).sum())
    return {
        "latents": count,
        "share": count / len(fired),
        "n_rows": n_rows,
        "n_episodes": n_episodes,
        "rate_below": 1 - (1 - level) ** (1 / n_episodes),
        "level": level,
    }
