"""One SAE in training: parameters, gradients, optimiser. Several members can be fed the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policylens.sae import resampling
from policylens.sae.architecture import SINCE, Tensors, Terms
from policylens.sae.architectures import build
from policylens.sae.optimiser import Adam
from policylens.sae.parallel import as_a_whole


class Member:
    """The state of one training, advanced by `update`.

    settings: resolved (`policylens.sae.settings.resolve`). seed: of the initialisation. d_out: width of the target.
    start: an SAE's tensors on normalised rows to go on from, instead of an initialisation.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        d_in: int,
        seed: int,
        device: str,
        d_out: int | None = None,
        start: Tensors | None = None,
    ) -> None:
        self.settings = settings
        self.architecture = build(settings)
        if start is None:
            initial = self.architecture.initial(d_in, d_out or d_in, torch.Generator().manual_seed(seed))
        else:
            initial = self.architecture.restart(start)
        self.parameters: Tensors = {name: _laid_out(name, tensor).to(device) for name, tensor in initial.items()}
        self.memory: Tensors = {name: t.to(device) for name, t in self.architecture.initial_memory(start).items()}
        self.gradients: Tensors = {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}
        self.seed = seed
        self.step = 0
        self._per_square = self.architecture.per_square(self.parameters["b_dec"].shape[0])
        blocks = ([_contiguous(tensor) for tensor in kind.values()] for kind in (self.parameters, self.gradients))
        self._optimiser = Adam(*blocks, settings["learning_rate"])
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    @property
    def progress(self) -> float:
        """Share of the training done."""
        return self.step / self.settings["steps"]

    def moments(self) -> list[Tensors]:
        """Adam's exp_avg and exp_avg_sq of each parameter in turn, W_enc's as an (m, d_in) block."""
        return self._optimiser.moments

    def go_to(self, step: int) -> None:
        """Count on from a step whose parameters, moments and memory have been put back."""
        self.step = step
        for count in self._optimiser.steps:
            count.fill_(float(step))

    @property
    def finished(self) -> Tensors:
        """Tensors of the SAE as it stands, on normalised rows."""
        return self.architecture.finish(self.parameters, self.memory)

    def update(self, x: Tensor, target: Tensor | None = None) -> Terms:
        """One step on a normalised batch, x (n, d_in) and target (n, d_out), x itself if None; the loss before it."""
        goal = x if target is None else target
        terms = self.architecture.gradients(self.parameters, x, goal, self.gradients, self.memory, self.progress)
        self.architecture.project(self.parameters, self.gradients)
        if self.settings["gradient_clip"] is not None:
            self._optimiser.clip(self.settings["gradient_clip"] * self._per_square)
        self._watch(terms.loss)
        falling = decay(self.progress, self.settings["learning_rate_decay"])
        self._optimiser.step(self.settings["learning_rate"] * falling)
        self.architecture.constrain(self.parameters)
        self._remember(terms, len(x))
        self.step += 1
        if resampling.due(self):
            with as_a_whole():
                resampling.resample(self, x, goal)
        return terms

    def _remember(self, terms: Terms, rows: int) -> None:
        self.memory[SINCE].add_(rows).masked_fill_(terms.fired, 0)
        for name, value in terms.remembered.items():
            self.memory[name].copy_(value)

    def _watch(self, loss: Tensor) -> None:
        """Note the first step whose loss is not finite, without waiting for the device."""
        new = ~torch.isfinite(loss) & (self.first_bad_step < 0)
        self.first_bad_step.masked_fill_(new, self.step)


def decay(progress: float, share: float) -> float:
    """Factor of the learning rate: 1, then falling linearly to 0 over the last `share` of the training."""
    return min(1.0, (1 - progress) / share) if share else 1.0


def _laid_out(name: str, tensor: Tensor) -> Tensor:
    """W_enc as the transpose of an (m, d) block, so that a latent's weights lie together; others contiguous."""
    return tensor.T.contiguous().T if name == "W_enc" else tensor.contiguous()


def _contiguous(tensor: Tensor) -> Tensor:
    """The same memory as a contiguous tensor: W_enc is kept as the transpose of an (m, d) block."""
    return tensor if tensor.is_contiguous() else tensor.T
