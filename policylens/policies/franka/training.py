"""DAgger: a policy learns the expert's actions in the states that it visits itself. Budgeted in iterations.

The expert's demonstrations come first. In every later iteration the policy plays some episodes, the expert says what it
would have done at each step, and gradient steps follow on all states seen so far (Ross, Gordon, Bagnell, AISTATS 2011).
The value head learns the discounted returns of the policy's own latest episodes. Episodes follow from (seed, number),
batches from (seed, iteration): the state between two iterations is the weights, the optimiser's moments and the states
seen, and a run that is interrupted and resumed equals one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from policylens.policies.franka.actor_critic import VARIANCE_FLOOR
from policylens.policies.franka.dataset import FIELDS, Dataset
from policylens.policies.franka.initial import full_architecture, initial_tensors
from policylens.policies.franka.play import PlaySettings, acting, play
from policylens.policies.franka.policy import build
from policylens.policies.run_settings import RunSettings
from policylens.policies.runs import Run, go_on

LOG_COLUMNS = (
    "iteration",
    "episodes",
    "rows",
    "gradient_steps",
    "success",
    "action_loss",
    "value_loss",
    "learning_rate",
)
STATISTICS = ("observation_mean", "observation_variance", "return_mean", "return_variance")
HUBER = 0.3  # action errors beyond this count linearly: the expert's fingers switch at once


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """What a training run is made of.

    See RunSettings for iterations, snapshots, save_every, learning_rate, warm_up, weight_decay and clip.
    architecture: `kind` (mlp, transformer), and sizes that differ from the defaults in initial.py.
    demonstrations: episodes of the expert. episodes: of the policy, per iteration but the first. noise: standard
    deviation of what is added to the actions of the expert and, in every second iteration, of the policy. horizon,
    lanes: see PlaySettings.
    steps: gradient steps per iteration. batch: rows of each, for actions and for values.
    discount: of returns, per step. value_iterations: of how many latest iterations the value head learns.
    value_weight: of its loss beside that of actions.
    """

    iterations: int
    architecture: Mapping[str, Any] = field(default_factory=lambda: {"kind": "mlp"})
    snapshots: tuple[int, ...] = ()
    save_every: int = 5
    demonstrations: int = 64
    episodes: int = 16
    noise: float = 0.06
    horizon: int = 300
    lanes: int = 32
    steps: int = 400
    batch: int = 256
    learning_rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 1e-4
    clip: float = 1.0
    discount: float = 0.99
    value_iterations: int = 8
    value_weight: float = 0.5

    def play(self, noise: float) -> PlaySettings:
        """How the episodes are played."""
        return PlaySettings(horizon=self.horizon, noise=noise, lanes=self.lanes)


class _Run(Run):
    """Episodes of the policy, and learning what the expert says of them. episodes: played so far, the expert's too.

    success: share of the latest episodes in which the drawer was opened.
    """

    FAMILY, DATA, FIELDS = "franka", "dataset", FIELDS
    COUNTERS = ("iteration", "episodes", "gradient_steps")

    def __init__(self, settings: TrainingSettings, seed: int) -> None:
        architecture = full_architecture(settings.architecture)
        tensors = initial_tensors(architecture, seed)
        weights = {name: tensor.requires_grad_() for name, tensor in tensors.items() if name not in STATISTICS}
        self.policy = build({"family": "franka", "architecture": architecture}, tensors)
        self.dataset, self.episodes, self.success = Dataset(), 0, math.nan
        super().__init__(settings, seed, architecture, tensors, weights, self.dataset)

    def begin(self) -> None:
        """Let the expert play, and take the statistics by which observations and returns are normalised ever after."""
        self._play(None, self.settings.demonstrations, self.settings.noise)
        columns = self.dataset.columns
        for name, values in (("observation", columns["observations"]), ("return", columns["returns"][:, None])):
            self.tensors[f"{name}_mean"].copy_(torch.from_numpy(values.mean(axis=0, dtype=np.float64)))
            self.tensors[f"{name}_variance"].copy_(torch.from_numpy(values.var(axis=0, dtype=np.float64)))

    def iterate(self) -> None:
        """Play one iteration's episodes and learn; the first has the demonstrations."""
        if self.iteration:
            noise = self.settings.noise if self.iteration % 2 else 0.0
            self._play(acting(self.policy), self.settings.episodes, noise)
        generator = np.random.default_rng([self.seed, self.iteration])
        own = self.dataset.own_rows(self.settings.value_iterations)
        losses, rate = self.learn(self.settings.steps, lambda: self._gradient_step(generator, own))
        self.iteration += 1
        counts = (self.iteration, self.episodes, len(self.dataset), self.gradient_steps, self.success)
        self.log.append(dict(zip(LOG_COLUMNS, (*counts, *losses, rate), strict=True)))

    def _play(self, act: Any, count: int, noise: float) -> None:
        settings = self.settings
        numbers = range(self.episodes, self.episodes + count)
        found = play(act, settings.play(noise), numbers, "training", self.seed, teach=True)
        self.success = self.dataset.add(found, settings.discount, self.iteration, bool(noise))
        self.episodes += count

    def _gradient_step(self, generator: np.random.Generator, visited: np.ndarray) -> Tensor:
        """One step on the actions of any rows and the values of rows among `visited`; returns both losses."""
        rows = generator.integers(len(self.dataset), size=self.settings.batch)
        own = visited[generator.integers(len(visited), size=self.settings.batch)]
        columns = self.dataset.columns
        found = self.policy.run({"observations": columns["observations"][np.concatenate([rows, own])]})
        mean, taught = found.heads.mu[: len(rows)], torch.from_numpy(columns["taught"][rows])
        action_loss = functional.smooth_l1_loss(mean, taught, beta=HUBER)
        spread = found.heads.log_std[: len(rows)]
        # The width learns how far the mean is off, and has no say in where the mean goes.
        spread_loss = (0.5 * ((taught - mean.detach()) / spread.exp()) ** 2 + spread).mean()
        scale = (self.tensors["return_variance"] + VARIANCE_FLOOR).sqrt()
        wanted = (torch.from_numpy(columns["returns"][own]) - self.tensors["return_mean"]) / scale
        value_loss = functional.mse_loss(found.value[len(rows) :], wanted)
        self.descend(action_loss + self.settings.value_weight * value_loss + 0.01 * spread_loss)
        return torch.stack([action_loss, value_loss]).detach()

    def line(self) -> str:
        """Rows, success and losses."""
        row = self.log[-1]
        return (
            f"{len(self.dataset)} rows | success {row['success']:.2f} | "
            f"action loss {row['action_loss']:.4f} | value loss {row['value_loss']:.4f}"
        )


def train(
    settings: Mapping[str, Any],
    folder: Path,
    seed: int,
    progress: Callable[[str], None] = print,
    stop_after: int | None = None,
) -> None:
    """Train from scratch, or go on where an earlier call with the same settings and seed stopped.

    settings: see TrainingSettings. folder: receives iteration-0000, ... (checkpoint folders), training_log.csv,
    and the state to resume from. progress: receives a line per iteration. stop_after: end the call after this
    iteration although the run is longer.
    Raises UserError if the folder holds a state of a different run.
    """
    go_on(_Run(TrainingSettings.from_mapping(settings), seed), Path(folder), progress, stop_after)
