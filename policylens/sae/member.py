"""One SAE in training: parameters, gradients, optimiser. Several members can be fed the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policylens.sae.architecture import Tensors, Terms
from policylens.sae.architectures import build


class Member:
    """The state of one training, advanced by `update`.

    settings: resolved (`policylens.sae.settings.resolve`). seed: of the initialisation.
    """

    def __init__(self, settings: Mapping[str, Any], d_in: int, seed: int, device: str) -> None:
        self.settings = settings
        self.architecture = build(settings)
        initial = self.architecture.initial(d_in, torch.Generator().manual_seed(seed))
        self.parameters: Tensors = {name: tensor.to(device) for name, tensor in initial.items()}
        self.memory: Tensors = {name: t.to(device) for name, t in self.architecture.initial_memory().items()}
        self.gradients: Tensors = {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}
        self.step = 0
        self._views = [_contiguous(tensor) for tensor in self.parameters.values()]
        for view, gradient in zip(self._views, self.gradients.values(), strict=True):
            view.grad = _contiguous(gradient)
        self.optimiser = torch.optim.Adam(self._views, lr=settings["learning_rate"], fused=device != "mps")
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    @property
    def progress(self) -> float:
        """Share of the training done."""
        return self.step / self.settings["steps"]

    def update(self, x: Tensor) -> Terms:
        """One step on a normalised batch (n, d); returns the loss before it."""
        terms = self.architecture.gradients(self.parameters, x, self.gradients, self.memory, self.progress)
        self.architecture.project(self.parameters, self.gradients)
        if self.settings["gradient_clip"] is not None:
            torch.nn.utils.clip_grad_norm_(self._views, self.settings["gradient_clip"])
        self._watch(terms.loss)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings["learning_rate"] * decay(self.progress, self.settings["learning_rate_decay"])
        self.optimiser.step()
        self.architecture.constrain(self.parameters)
        self.step += 1
        return terms

    def _watch(self, loss: Tensor) -> None:
        """Note the first step whose loss is not finite, without waiting for the device."""
        new = ~torch.isfinite(loss) & (self.first_bad_step < 0)
        self.first_bad_step.masked_fill_(new, self.step)


def decay(progress: float, share: float) -> float:
    """Factor of the learning rate: 1, then falling linearly to 0 over the last `share` of the training."""
    return min(1.0, (1 - progress) / share) if share else 1.0


def _contiguous(tensor: Tensor) -> Tensor:
    """The same memory as a contiguous tensor: W_enc is kept as the transpose of an (m, d) block."""
    return tensor if tensor.is_contiguous() else tensor.T
