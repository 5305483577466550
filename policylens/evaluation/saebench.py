"""Core metrics under SAEBench's names and definitions, so that numbers can be laid beside published ones.

Source: SAEBench (Karvonen et al. 2025, arXiv:2503.09532), sae_bench/evals/core/main.py. What differs here:

- One batch holds all evaluated rows, so that nothing depends on how they were cut. Their `mse` divides each row's
  squared error by the number of rows in its batch once more before averaging; that factor is left out.
- `explained_variance` is 1 - E||x - x_hat||^2 / (E||x||^2 - ||E x||^2), what theirs is meant to be. The code, which it
  shares with SAELens before that was corrected (pull request 665 there), takes the mean of squares where it means the
  square of means, and one number for all dimensions: it divides by E||x||^2 - (E||x||^2 / d)^2.
  `explained_variance_as_released` repeats that, for comparison with numbers made by it.
- Their prompts are episodes here, their next-token loss is -log-likelihood of the action that the policy prefers.

`l0` and `l1` count latents that are not 0 and sum f as it is, whatever the decoder's norms; `metrics` has them
weighted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.evaluation.reconstruction import RowTable
from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

BLOCK = 512
SMALLEST_NORM = 1e-4
Plain = dict[str, Any]


def saebench_metrics(
    sae: SAE, table: RowTable, episodes: np.ndarray, resampling: Resampling, fidelity: Mapping[str, Any] | None
) -> Plain:
    """SAEBench's groups of metrics: estimates with intervals over episodes, and plain numbers of the weights.

    table: of :func:`policylens.evaluation.reconstruction.row_table`. episodes: (n,) of its rows.
    fidelity: of `policylens.evaluation.fidelity.summarise`, or None.
    """
    rows = _row_metrics(table, sae.W_dec.shape[1], episodes, resampling)
    quality = ("explained_variance", "explained_variance_as_released", "explained_variance_legacy", "mse", "cossim")
    shrinkage = ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias")
    return {
        "reconstruction_quality": {name: rows[name] for name in quality},
        "shrinkage": {name: rows[name] for name in shrinkage},
        "sparsity": {name: rows[name] for name in ("l0", "l1")},
        "misc_metrics": {**weight_metrics(sae), **density_metrics(table.positive / len(episodes))},
        **(_behaviour(fidelity) if fidelity else {}),
    }


def _row_metrics(table: RowTable, width: int, episodes: np.ndarray, resampling: Resampling) -> dict[str, Plain]:
    grouped = Clusters.of(episodes)
    n, lengths = grouped.n_rows, grouped.lengths.astype(np.float64)
    norm_in, norm_out = np.sqrt(table.energy), np.sqrt(table.output)
    means = {
        "mse": table.error,
        "explained_variance_legacy": 1 - table.error / table.spread,
        "cossim": table.product / (norm_in * norm_out),
        "l2_norm_in": norm_in,
        "l2_norm_out": norm_out,
        "l2_ratio": norm_out / np.where(norm_in < SMALLEST_NORM, 1, norm_in),
        "l0": table.nonzero,
        "l1": table.total,
    }
    found = {
        name: bootstrap_ratio(grouped.sums(np.where(np.isfinite(values), values, 0)), lengths, resampling, n_rows=n)
        for name, values in means.items()
    }
    error, spread, energy, output, product = (
        grouped.sums(values) for values in (table.error, table.spread, table.energy, table.output, table.product)
    )
    ratios = {
        "explained_variance": ((error, spread), lambda e, s: 1 - e / s),
        "explained_variance_as_released": (
            (error, energy, lengths),
            lambda e, s, n: 1 - e / (s - s**2 / (n * width**2)),
        ),
        "relative_reconstruction_bias": ((output, product), np.divide),
    }
    for name, (terms, combine) in ratios.items():
        found[name] = bootstrap_sums(terms, combine, resampling, n_rows=n, undefined="nan")
    return {name: estimate.record() for name, estimate in found.items()}


def density_metrics(densities: np.ndarray) -> dict[str, float]:
    """From the share of rows in which each latent is above 0, (m,): how many are alive, and how often they fire."""
    total = densities.sum()
    found = {"frac_alive": float((densities > 0).mean())}
    for percent, bound in ((1, 0.01), (10, 0.1)):
        often = densities > bound
        found[f"freq_over_{percent}_percent"] = float(often.mean())
        found[f"normalized_freq_over_{percent}_percent"] = float(densities[often].sum() / total) if total > 0 else 0.0
    return found


def weight_metrics(sae: SAE) -> dict[str, float | None]:
    """Means over latents of what SAEBench reads off the weights (folded: for raw activations); null without them."""
    encoder, bias = sae.tensors.get("W_enc"), sae.tensors.get("b_enc", sae.tensors.get("b_mag"))
    decoder = sae.W_dec.float()
    found: dict[str, float | None] = {"average_max_decoder_cosine_sim": float(largest_cosines(decoder).mean())}
    names = ("average_max_encoder_cosine_sim", "average_encoder_norm", "average_encoder_decoder_cosine_sim")
    found |= dict.fromkeys(names)
    found["average_encoder_bias"] = None if bias is None else float(bias.float().mean())
    if encoder is not None:
        rows = encoder.float().T
        found["average_max_encoder_cosine_sim"] = float(largest_cosines(rows).mean())
        found["average_encoder_norm"] = float(rows.norm(dim=1).mean())
        if rows.shape == decoder.shape:
            found["average_encoder_decoder_cosine_sim"] = float(torch.cosine_similarity(rows, decoder).mean())
    return found


def largest_cosines(directions: Tensor) -> Tensor:
    """(m,) largest cosine of each of the (m, d) directions with any other, in blocks of rows."""
    unit = torch.nn.functional.normalize(directions, dim=1)
    found = []
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -torch.inf
        found.append(cosines.amax(1))
    return torch.cat(found)


def _behaviour(fidelity: Mapping[str, Any]) -> Plain:
    """SAEBench ablates with zeros."""
    edits = fidelity["edits"]
    return {
        "model_behavior_preservation": {
            "kl_div_score": fidelity["kl_recovered"]["zero"],
            "kl_div_with_ablation": edits["zero"]["kl"],
            "kl_div_with_sae": edits["reconstruction"]["kl"],
        },
        "model_performance_preservation": {
            "ce_loss_score": fidelity["loss_recovered"]["zero"],
            "ce_loss_with_ablation": edits["zero"]["loss"],
            "ce_loss_with_sae": edits["reconstruction"]["loss"],
            "ce_loss_without_sae": edits["identity"]["loss"],
        },
    }
