"""The first-order estimate of what changing latents does: one backward pass per output for all latents together.

    effect of latent i on output o  ~  mean over rows of  sum over positions of  (wanted - f_i) W_dec,i . do/dx

Attribution patching (Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching; Syed,
Rager and Conmy 2023, arXiv:2310.10348), with an SAE's latents as the units.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policylens.interventions.exact import changes_of
from policylens.interventions.modes import Mode
from policylens.interventions.outcomes import KL
from policylens.interventions.subject import BATCH_ROWS, Subject


def first_order(subject: Subject, mode: Mode, latents: np.ndarray) -> dict[str, np.ndarray]:
    """Estimated mean effects of changing each of k latents: outcome -> float64 (k, units).

    For actions and value. KL has no first order (it is least where nothing changes); the latents of later sites would
    need a backward pass each. Nothing where the policy is recurrent: what follows in later steps is no part of a pass.
    """
    changes = changes_of(subject, mode, latents)
    change, decoder = changes.amounts.movedim(0, 2), changes.directions.to(subject.activation.dtype)
    found: dict[str, np.ndarray] = {}
    if subject.recurrent:
        return found
    for rows in torch.arange(subject.n_rows).split(BATCH_ROWS):
        for name, slopes in _slopes(subject, mode, rows).items():
            gained = [_projected(slope, decoder, change[rows]) for slope in slopes]
            found[name] = found.get(name, 0) + np.stack(gained, axis=1)
    return {name: total / subject.n_rows for name, total in found.items()}


def _slopes(subject: Subject, mode: Mode, rows: Tensor) -> dict[str, list[Tensor]]:
    """Output -> per unit d(output)/dx, (b, *inner, d)."""
    x = subject.baseline(mode.keep_error).activation[rows].detach().clone().requires_grad_(True)
    result = subject.resumed(subject.site, rows, x, subject.outcomes.sites)
    outcomes = {name: values for name, values in subject.outcomes.of(result, result.heads).items() if name != KL}
    found = {}
    for name, values in outcomes.items():
        if name not in subject.outcomes.sites:
            units = range(values.shape[1])
            found[name] = [torch.autograd.grad(values[:, u].sum(), x, retain_graph=True)[0] for u in units]
    return found


def _projected(slope: Tensor, decoder: Tensor, change: Tensor) -> np.ndarray:
    """Sum over rows and positions of change (b, positions, k) times the slope along each decoder direction: (k,)."""
    along = slope.reshape(len(slope), -1, slope.shape[-1]) @ decoder.T
    return (along.cpu().double() * change.double()).sum((0, 1)).numpy()
