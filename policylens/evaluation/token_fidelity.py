"""What a policy loses when some tokens' activations at a site are replaced: by reconstructions, or by ablations.

The counterpart of `policylens.evaluation.fidelity` for captures whose rows are tokens: a pass is of whole frames, and
the tokens that the capture holds are the ones that are replaced, at every denoising step where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.capture.tokens import Choice, selected
from policylens.errors import UserError
from policylens.evaluation.fidelity import EDITS, check_recorded, measured
from policylens.policies.protocol import Batch, Edit, Pass, Policy
from policylens.sae.base import SAE


class Frames(NamedTuple):
    """Some evaluated frames.

    batch: their observations. donors: as many frames of other episodes. recorded: (rows, width) what the capture holds
    of the batch's tokens.
    """

    batch: Batch
    donors: Batch
    recorded: np.ndarray


def token_fidelity_rows(
    policy: Policy, site: str, sae: SAE, pieces: Iterable[Frames], choice: Choice, mean: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Per edit and metric, float64 (n,) over all frames: as `fidelity_rows`, whose metrics these are.

    choice: the capture's. mean: (d,) what mean-ablation puts there. A token that the donor frame has no token for keeps
    its own activation. Raises UserError for a transcoder, and if the capture is not of this policy and these frames.
    """
    if sae.cfg.output_site is not None:
        raise UserError(f"a transcoder into {sae.cfg.output_site!r} cannot be spliced into tokens; set fidelity: false")
    parts: dict[str, list[dict[str, np.ndarray]]] = {edit: [] for edit in EDITS}
    for piece in pieces:
        with torch.inference_mode():
            for edit, found in _of_frames(policy, site, sae, piece, choice, torch.from_numpy(mean)).items():
                parts[edit].append(found)
    return {
        edit: {metric: np.concatenate([part[metric] for part in found]) for metric in found[0]}
        for edit, found in parts.items()
    }


def _of_frames(
    policy: Policy, site: str, sae: SAE, piece: Frames, choice: Choice, mean: Tensor
) -> dict[str, dict[str, np.ndarray]]:
    original = policy.run(piece.batch, read=[site])
    taken, _ = selected([policy.sites[site]], original.reads, original.tokens, choice)
    check_recorded(taken[site], piece.recorded, site)
    donors = policy.run(piece.donors, read=[site], stop_after=site)
    mask = choice.mask(original.tokens[site])
    found = {}
    for name, make in _replacements(sae, mean, donors, site, choice, mask).items():
        changed = _run(policy, piece.batch, site, original, make)
        found[name] = measured(original, changed)
    return found


def _run(policy: Policy, batch: Batch, site: str, original: Pass, make: Callable[[], Edit]) -> Pass:
    if site in original.cache:
        return policy.run(resume=(site, original.cache), edit={site: make()})
    return policy.run(batch, edit={site: make()})


def _replacements(
    sae: SAE, mean: Tensor, donors: Pass, site: str, choice: Choice, mask: Tensor
) -> dict[str, Callable[[], Edit]]:
    """Name -> what makes an edit for one pass. mask: (n, tokens) which tokens are replaced."""

    def masked(replace: Callable[[Tensor], Tensor]) -> Callable[[], Edit]:
        return lambda: lambda x: torch.where(mask[..., None], replace(x).to(x.dtype), x)

    def reconstruct(x: Tensor) -> Tensor:
        return sae(x.reshape(-1, x.shape[-1]).to(sae.W_dec.dtype)).reshape(x.shape)

    def resample() -> Edit:
        given = _steps(donors.reads[site], repeated=site not in donors.cache)
        theirs = mask & choice.mask(donors.tokens[site])
        return lambda x: torch.where(theirs[..., None], next(given), x)

    return {
        "identity": masked(lambda x: x),
        "reconstruction": masked(reconstruct),
        "zero": masked(torch.zeros_like),
        "mean": masked(lambda x: mean.to(x).expand_as(x)),
        "resample": resample,
    }


def _steps(read: Tensor, repeated: bool) -> Iterator[Tensor]:
    """What a site holds each time that a pass comes by it."""
    return iter(read.unbind(1)) if repeated else iter([read])
