"""What an SAE reconstructs, how sparsely, and how often each latent fires."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

BATCH_ROWS = 4096
DENSITY_EDGES = np.round(np.arange(-6, 0.01, 0.25), 2)


class RowTable(NamedTuple):
    """Per evaluated row, float64 (n,), and per latent; y is the activation that x_hat stands for, x itself or, for a
    transcoder, that of its output site.

    error: ||y - x_hat||^2. energy: ||y||^2. spread: ||y - mean of the evaluated rows||^2. output: ||x_hat||^2.
    product: y . x_hat. active: number of active latents. strength: sum_i ||W_dec,i|| f_i in the units of the normalised
    data. nonzero: number of latents that are not 0. total: sum_i f_i. loss: the training loss's main part.
    fired: (m,) int64, in how many rows each latent was active. positive: (m,) int64, in how many it was above 0.
    """

    error: np.ndarray
    energy: np.ndarray
    spread: np.ndarray
    output: np.ndarray
    product: np.ndarray
    active: np.ndarray
    strength: np.ndarray
    nonzero: np.ndarray
    total: np.ndarray
    loss: np.ndarray
    fired: np.ndarray
    positive: np.ndarray


@torch.no_grad()
def row_table(
    sae: SAE, activations: np.ndarray, targets: np.ndarray | None = None, batch_rows: int = BATCH_ROWS
) -> RowTable:
    """Run an SAE over raw activations (n, d) float32; memory is bounded by the batch.

    targets: (n, d_out) what it should give; None: the activations themselves.
    """
    rows = torch.from_numpy(activations)
    wanted = rows if targets is None else torch.from_numpy(targets)
    mean = wanted.mean(0, dtype=torch.float64).float().to(sae.device)
    norms, parts = sae.W_dec.norm(dim=1) * sae.scale, []
    fired, positive = torch.zeros(2, sae.cfg.d_sae, dtype=torch.int64, device=sae.device)
    for x, y in zip(rows.split(batch_rows), wanted.split(batch_rows), strict=True):
        x, y = x.to(sae.device), y.to(sae.device)
        f = sae.encode(x)
        given, strength, active = sae.reconstruct(f, x), sae.strength(f), sae.active(f)
        fired += active.sum(0)
        positive += (f > 0).sum(0)
        squares = [(y - given).square(), y.square(), (y - mean).square(), given.square(), y * given]
        sums = [term.sum(1).float() for term in (*squares, active, strength * sae.scale, f != 0, f)]
        inside = sae.normalised(x)
        sums.append(sums[0] if sae.row_norm is None else (inside - sae.decode(f)).square().sum(1).float())
        sums.append(sae.architecture.penalty(sae.tensors, inside, f, norms))
        parts.append(torch.stack(sums).cpu().double())
    *sums, error, penalty = torch.cat(parts, dim=1)
    loss = sae.architecture.objective(error * sae.scale**2, penalty, wanted.shape[1])
    return RowTable(*(column.cpu().numpy() for column in (*sums, loss, fired, positive)))


def core_metrics(table: RowTable, episodes: np.ndarray, resampling: Resampling) -> dict[str, dict[str, Any]]:
    """Estimates with intervals over episodes, as plain JSON values.

    explained_variance: 1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, the mean over the evaluated rows.
    normalised_mse: sum ||x - x_hat||^2 / sum ||x||^2. l0, l1: active latents and sum of f * ||W_dec|| per row, the
    latter in units of the normalised data. loss: per row, in these units (comparable within one architecture only).
    episodes: (n,) the episode of each row.
    """
    grouped = Clusters.of(episodes)
    names = ("error", "energy", "spread", "active", "strength", "loss")
    sums = {name: grouped.sums(getattr(table, name)) for name in names}
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
