"""What a policy loses when its activation at a site is replaced: by an SAE's reconstruction, or by an ablation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Batch, Edit, Policy
from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

EDITS = ("identity", "reconstruction", "zero", "mean", "resample")
ABLATIONS = ("zero", "mean", "resample")
METRICS = ("kl", "agreement", "value_error")
MISMATCH = 0.05


class Piece(NamedTuple):
    """Some evaluated rows.

    batch: their observations. recorded: (n, *inner, width) their activations in the capture.
    donors: the same shape, activations of rows of other episodes.
    """

    batch: Batch
    recorded: np.ndarray
    donors: np.ndarray


def other_episodes(episodes: np.ndarray, seed: int) -> np.ndarray:
    """For each row the position of a row of another episode, uniform over all rows of other episodes.

    episodes: (n,) of at least two different episodes. Returns (n,) int64.
    """
    grouped = Clusters.of(episodes)
    order = np.arange(grouped.n_rows) if grouped.order is None else grouped.order
    start, length = (part[grouped.cluster_of_row] for part in (grouped.starts, grouped.lengths))
    drawn = np.random.default_rng(seed).integers(0, grouped.n_rows - length)
    drawn += np.where(drawn >= start, length, 0)
    return grouped.unsorted(order[drawn])


def fidelity_rows(policy: Policy, site: str, sae: SAE, pieces: Iterable[Piece]) -> dict[str, dict[str, np.ndarray]]:
    """Per edit and metric, float64 (n,) over all rows of all pieces.

    kl: KL(original || edited) of the action distribution, nats. agreement: whether both prefer the same action (0 or
    1). value_error: |edited - original| of the value, in its own units; absent if the policy has no value.
    Memory is bounded by a piece. Raises UserError if the capture is not of this policy and these observations.
    """
    parts: dict[str, list[dict[str, np.ndarray]]] = {edit: [] for edit in EDITS}
    for piece in pieces:
        with torch.inference_mode():
            for edit, measured in _of_piece(policy, site, sae, piece).items():
                parts[edit].append(measured)
    return {
        edit: {metric: np.concatenate([part[metric] for part in found]) for metric in found[0]}
        for edit, found in parts.items()
    }


def _of_piece(policy: Policy, site: str, sae: SAE, piece: Piece) -> dict[str, dict[str, np.ndarray]]:
    original = policy.run(piece.batch, read=[site])
    _check_recorded(original.reads[site], piece.recorded, site)
    found = {}
    for name, edit in _edits(sae, piece.donors).items():
        changed = policy.run(resume=(site, original.cache), edit={site: edit})
        measured = {
            "kl": original.heads.divergence(changed.heads),
            "agreement": original.heads.agreement(changed.heads),
        }
        if original.value is not None:
            measured["value_error"] = (changed.value - original.value).abs().flatten()
        found[name] = {metric: values.double().cpu().numpy() for metric, values in measured.items()}
    return found


def _edits(sae: SAE, donors: np.ndarray) -> dict[str, Edit]:
    def reconstruct(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).to(sae.W_dec.dtype)
        return sae(flat).reshape(x.shape)

    return {
        "identity": lambda x: x,
        "reconstruction": reconstruct,
        "zero": torch.zeros_like,
        "mean": lambda x: sae.mean.to(x).expand_as(x),
        "resample": lambda x: torch.from_numpy(donors).to(x),
    }


def _check_recorded(now: Tensor, recorded: np.ndarray, site: str) -> None:
    """The capture's activations must be what the policy computes, up to the rounding of the capture's dtype."""
    then = torch.from_numpy(recorded).to(now)
    if then.shape != now.shape or float((then - now).norm()) > MISMATCH * float(now.norm()):
        raise UserError(
            f"site {site!r}: the policy does not compute the activations that the capture holds; "
            "use the checkpoint and the source that the capture was made from"
        )


def summarise(rows: dict[str, dict[str, np.ndarray]], episodes: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    """Means per edit with intervals over episodes, and the share of the KL that the reconstruction recovers.

    kl_recovered: per ablation 1 - sum KL(reconstruction) / sum KL(ablation); 1 is perfect, 0 no better than the
    ablation. Plain JSON values.
    """
    grouped = Clusters.of(episodes)
    lengths = grouped.lengths.astype(np.float64)
    n = grouped.n_rows
    sums = {edit: {metric: grouped.sums(v) for metric, v in found.items()} for edit, found in rows.items()}
    edits = {
        edit: {
            metric: bootstrap_ratio(totals, lengths, resampling, n_rows=n).record() for metric, totals in found.items()
        }
        for edit, found in sums.items()
    }
    reconstruction = sums["reconstruction"]["kl"]
    recovered = {
        ablation: bootstrap_sums(
            (reconstruction, sums[ablation]["kl"]),
            lambda lost, all_lost: 1 - lost / all_lost,
            resampling,
            n_rows=n,
            undefined="nan",
        ).record()
        for ablation in ABLATIONS
    }
    return {"edits": edits, "kl_recovered": recovered}
