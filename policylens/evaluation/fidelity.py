"""What a policy loses when its activation at a site is replaced: by an SAE's reconstruction, or by an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Batch, Edit, Pass, Policy
from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

EDITS = ("identity", "reconstruction", "zero", "mean", "resample")
ABLATIONS = ("zero", "mean", "resample")
MISMATCH = 0.05


class Piece(NamedTuple):
    """Some evaluated rows.

    batch: their observations. recorded: (n, *inner, width) their activations in the capture, at the site that is
    replaced. donors: the same shape, activations of rows of other episodes.
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


def fidelity_rows(
    policy: Policy, site: str, sae: SAE, pieces: Iterable[Piece], mean: np.ndarray | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Per edit and metric, float64 (n,) over all rows of all pieces.

    site: whose activation the SAE takes. What it gives replaces that activation, or a transcoder's output site's.
    mean: (d_out,) what mean-ablation puts there; the mean of the rows that the SAE was trained on if left out.
    kl: KL(original || edited) of the action distribution, nats. agreement: whether both prefer the same action (0 or
    1). loss: -log-likelihood, under the edited pass, of the action that the original prefers, nats. value_error:
    |edited - original| of the value, in its own units; absent if the policy has no value.
    Memory is bounded by a piece. Raises UserError if the capture is not of this policy and these observations.
    """
    parts: dict[str, list[dict[str, np.ndarray]]] = {edit: [] for edit in EDITS}
    constant = sae.mean if mean is None else torch.from_numpy(mean)
    for piece in pieces:
        with torch.inference_mode():
            for edit, found in _of_piece(policy, site, sae, piece, constant).items():
                parts[edit].append(found)
    return {
        edit: {metric: np.concatenate([part[metric] for part in found]) for metric in found[0]}
        for edit, found in parts.items()
    }


def _of_piece(policy: Policy, site: str, sae: SAE, piece: Piece, mean: Tensor) -> dict[str, dict[str, np.ndarray]]:
    replaced = sae.cfg.output_site or site
    original = policy.run(piece.batch, read=[site, replaced])
    check_recorded(original.reads[replaced], piece.recorded, replaced)
    found = {}
    for name, edit in _edits(sae, original.reads[site], piece.donors, mean).items():
        changed = policy.run(resume=(replaced, original.cache), edit={replaced: edit})
        found[name] = measured(original, changed)
    return found


def measured(original: Pass, changed: Pass) -> dict[str, np.ndarray]:
    """How far a changed pass is from the original: the metrics of :func:`fidelity_rows`, float64 (n,)."""
    found = {
        "kl": original.heads.divergence(changed.heads),
        "agreement": original.heads.agreement(changed.heads),
        "loss": original.heads.loss(changed.heads),
    }
    if original.value is not None:
        found["value_error"] = (changed.value - original.value).abs().flatten()
    return {metric: values.double().cpu().numpy() for metric, values in found.items()}


def _edits(sae: SAE, taken: Tensor, donors: np.ndarray, mean: Tensor) -> dict[str, Edit]:
    """taken: (n, *inner, d_in), what the SAE sees."""

    def reconstruct(x: Tensor) -> Tensor:
        return sae(taken.reshape(-1, taken.shape[-1]).to(sae.W_dec.dtype)).reshape(x.shape)

    return {
        "identity": lambda x: x,
        "reconstruction": reconstruct,
        "zero": torch.zeros_like,
        "mean": lambda x: mean.to(x).expand_as(x),
        "resample": lambda x: torch.from_numpy(donors).to(x),
    }


def check_recorded(now: Tensor, recorded: np.ndarray, site: str) -> None:
    """The capture's activations must be what the policy computes, up to the rounding of the capture's dtype."""
    then = torch.from_numpy(recorded).to(now)
    if then.shape != now.shape or float((then - now).norm()) > MISMATCH * float(now.norm()):
        raise UserError(
            f"site {site!r}: the policy does not compute the activations that the capture holds; "
            "use the checkpoint and the source that the capture was made from"
        )


def summarise(rows: dict[str, dict[str, np.ndarray]], episodes: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    """Means per edit with intervals over episodes, and the shares of KL and loss that the reconstruction recovers.

    kl_recovered: per ablation 1 - sum KL(reconstruction) / sum KL(ablation). loss_recovered: per ablation
    (L(ablation) - L(reconstruction)) / (L(ablation) - L(original)), L the summed loss. 1 is perfect, 0 no better than
    the ablation. Plain JSON values.

    With the policy's whole action distribution as the label in place of its preferred action, L is KL plus the
    distribution's entropy, and the second share is the first.
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
    return {
        "edits": edits,
        "kl_recovered": {name: _recovered(sums, name, "kl", resampling, n) for name in ABLATIONS},
        "loss_recovered": {name: _recovered(sums, name, "loss", resampling, n) for name in ABLATIONS},
    }


def _recovered(
    sums: Mapping[str, Mapping[str, np.ndarray]], ablation: str, metric: str, resampling: Resampling, n_rows: int
) -> dict[str, Any]:
    """Share of what an ablation adds to a metric that the reconstruction does not add."""
    original = sums["identity"][metric]
    added = (sums["reconstruction"][metric] - original, sums[ablation][metric] - original)
    return bootstrap_sums(
        added, lambda lost, all_lost: 1 - lost / all_lost, resampling, n_rows=n_rows, undefined="nan"
    ).record()
