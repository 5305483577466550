"""What a policy achieves in its environment when its activation is replaced at every decision.

The same episodes, with the same initial states and the same randomness, are run with the policy as it is, with the
SAE's reconstruction spliced in, and with ablations of the site; differences are taken episode by episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Edit
from policylens.sae.base import SAE
from policylens.statistics.intervals import bootstrap_sums, cluster_bootstrap, paired_difference, wilson
from policylens.statistics.resampling import Resampling

ABLATIONS = ("mean", "resample", "zero")
EDITS = ("reconstruction", *ABLATIONS)

Results = Mapping[str, Mapping[str, np.ndarray]]
"""Task -> measure -> float64 (episodes,), as a family's `returns` gives them."""


def runs_of(
    sae: SAE, site: str, output_site: str | None, pool: np.ndarray, seed: int, mean: np.ndarray | None = None
) -> dict[str, dict[str, Edit]]:
    """Run -> its edits, {site: function} as `Policy.run` takes them.

    original: none. reconstruction: the SAE's; a transcoder reads at `site` and writes at `output_site`. mean: what is
    given, (d_out,), or the mean of the rows that the SAE was trained on. resample: the activation of a random row of
    `pool`, (n, *inner, d) held-out activations of the place written to, drawn anew at every decision. zero.
    """
    place = output_site or site
    constant = sae.mean if mean is None else torch.from_numpy(mean)
    seen: dict[str, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        seen["x"] = x
        return x

    def reconstruct(x: Tensor) -> Tensor:
        if output_site and "x" not in seen:
            raise UserError(f"{output_site!r} comes before {site!r} in this policy: nothing can be predicted into it")
        read = seen.pop("x") if output_site else x
        flat = read.reshape(-1, read.shape[-1]).to(sae.W_dec.dtype)
        return sae(flat).reshape(x.shape)

    generator = torch.Generator().manual_seed(seed)
    donors = torch.from_numpy(pool)

    def resample(x: Tensor) -> Tensor:
        return donors[torch.randint(len(donors), (len(x),), generator=generator)].to(x)

    return {
        "original": {},
        "reconstruction": {place: reconstruct} | ({site: keep} if output_site else {}),
        "mean": {place: lambda x: constant.to(x).expand_as(x)},
        "resample": {place: resample},
        "zero": {place: torch.zeros_like},
    }


def summarise(found: Mapping[str, Results], episodes: Sequence[int], resampling: Resampling) -> dict[str, Any]:
    """Task -> measure -> numbers, as plain JSON values.

    found: of every run of :func:`runs_of`. runs: the mean over episodes. difference: edit minus original, paired by
    episode. recovered: per ablation 1 - (original - reconstruction) / (original - ablation), the share of what the
    ablation loses that the reconstruction keeps; without an interval where the ablation loses nothing in a resample.
    """
    numbers = np.asarray(episodes)
    return {
        task: {name: _of_measure({run: found[run][task][name] for run in found}, numbers, resampling) for name in names}
        for task, names in found["original"].items()
    }


def _of_measure(runs: Mapping[str, np.ndarray], episodes: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    original = runs["original"]
    edits = {name: values for name, values in runs.items() if name != "original"}
    return {
        "runs": {name: _mean(values, episodes, resampling) for name, values in runs.items()},
        "difference": {
            name: paired_difference(values, original, episodes, resampling).record() for name, values in edits.items()
        },
        "recovered": {
            name: _recovered(original, edits["reconstruction"], edits[name], resampling) for name in ABLATIONS
        },
    }


def _mean(values: np.ndarray, episodes: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    """Wilson's interval for a rate of success, the bootstrap over episodes for everything else."""
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values), resampling.level).record()
    return cluster_bootstrap(values, episodes, resampling).record()


def _recovered(
    original: np.ndarray, reconstruction: np.ndarray, ablation: np.ndarray, resampling: Resampling
) -> dict[str, Any]:
    terms = (original - reconstruction, original - ablation)
    return bootstrap_sums(terms, lambda lost, all_lost: 1 - lost / all_lost, resampling, undefined="nan").record()
