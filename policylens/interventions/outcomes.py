"""What effects are measured on: actions, value, and the latents of SAEs at later sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.heads import Heads
from policylens.policies.protocol import Pass, Policy
from policylens.sae.base import SAE

KL = "kl"
VALUE = "value"


class Outcomes:
    """Numbers of a pass by name, as (rows, units): the head's outputs, `kl`, `value`, and per later site its latents.

    kl is KL(baseline || pass) in nats. A site whose rows have positions gives each latent's mean over them.
    """

    def __init__(self, policy: Policy, order: Sequence[str], site: str, saes: Mapping[str, SAE]) -> None:
        """order: sites as a pass comes by them. site: what is changed; of `saes`, those at later ones are read."""
        self.saes = {name: saes[name] for name in order[order.index(site) + 1 :] if name in saes}
        for name, sae in self.saes.items():
            if sae.cfg.d_in != policy.sites[name].width:
                width = policy.sites[name].width
                raise UserError(f"the SAE at {name!r} takes {sae.cfg.d_in} units, the policy's site has {width}")

    @property
    def sites(self) -> list[str]:
        """What a pass has to read."""
        return list(self.saes)

    def of(self, result: Pass, baseline: Heads) -> dict[str, Tensor]:
        """Name -> (n, units) float32. baseline: the head of the same rows without the intervention."""
        found = {name: output.float() for name, output in result.heads.outputs().items()}
        found[KL] = baseline.divergence(result.heads)[:, None].float()
        if result.value is not None:
            found[VALUE] = result.value.reshape(-1, 1).float()
        for name, sae in self.saes.items():
            read = result.reads[name]
            latents = sae.encode(read.to(sae.W_enc.dtype))
            found[name] = latents.reshape(len(read), -1, latents.shape[-1]).mean(1) if read.ndim > 2 else latents
        return found


def as_arrays(outcomes: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """On the CPU, each with its rows one after the other in memory."""
    return {name: np.ascontiguousarray(values.detach().cpu().numpy()) for name, values in outcomes.items()}


def joined(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Outcomes of consecutive rows as one."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def joined_heads(heads: list[Heads]) -> Heads:
    """Heads of consecutive rows as one."""
    first = heads[0]
    parts = {}
    for name, value in vars(first).items():
        by_row = isinstance(value, Tensor) and value.ndim > 1
        parts[name] = torch.cat([getattr(head, name) for head in heads]) if by_row else value
    return type(first)(**parts)
