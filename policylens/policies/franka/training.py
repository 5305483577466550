"""DAgger: a policy learns the expert's actions in the states that it visits itself. Budgeted in iterations.

The expert's demonstrations come first. In every later iteration the policy plays some episodes, the expert says what it
would have done at each step, and gradient steps follow on all states seen so far (Ross, Gordon, Bagnell, AISTATS 2011).
The value head learns the discounted returns of the policy's own latest episodes. Episodes follow from (seed, number),
batches from (seed, iteration): the state between two iterations is the weights, the optimiser's moments and the states
seen, and a run that is interrupted and resumed equals one that was not.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from policylens.errors import UserError
from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.franka.actor_critic import VARIANCE_FLOOR
from policylens.policies.franka.dataset import FIELDS, Dataset
from policylens.policies.franka.initial import full_architecture, initial_tensors
from policylens.policies.franka.play import PlaySettings, acting, play
from policylens.policies.franka.policy import build
from policylens.stores.files import write_tensors, write_text

STATE = "state.safetensors"
LOG = "training_log.csv"
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
_STATE_FORMAT = 1


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is made of.

    iterations: length of the run, which the learning rate's schedule spans. architecture: `kind` (mlp, transformer),
    and sizes that differ from the defaults in initial.py. snapshots: iterations after which a checkpoint is written;
    0 (the untrained network) and the last are always among them. save_every: iterations between states to resume from.
    demonstrations: episodes of the expert. episodes: of the policy, per iteration but the first. noise: standard
    deviation of what is added to the actions of the expert and, in every second iteration, of the policy. horizon,
    lanes: see PlaySettings.
    steps: gradient steps per iteration. batch: rows of each, for actions and for values. learning_rate: peak, after a
    linear warm-up of `warm_up` steps and before a cosine to a fiftieth. clip: largest gradient norm.
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

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """Settings from a config block; an unknown or missing key is a UserError."""
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise UserError(f"unknown training settings {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if "iterations" not in settings:
            raise UserError("training settings lack `iterations`, the length of the run")
        return cls(**{**settings, "snapshots": tuple(settings.get("snapshots", ()))})

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Learning rate at a gradient step (counted from 0) when `progress` in [0, 1] of the run is done."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def play(self, noise: float) -> PlaySettings:
        """How the episodes are played."""
        return PlaySettings(horizon=self.horizon, noise=noise, lanes=self.lanes)


class _Run:
    """A training run between two iterations."""

    def __init__(self, settings: TrainingSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.architecture = full_architecture(settings.architecture)
        self.tensors = initial_tensors(self.architecture, seed)
        self.weights = {name: tensor for name, tensor in self.tensors.items() if name not in STATISTICS}
        for tensor in self.weights.values():
            tensor.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.policy = build({"family": "franka", "architecture": self.architecture}, self.tensors)
        self.dataset = Dataset()
        self.iteration, self.episodes, self.gradient_steps = 0, 0, 0
        self.success = math.nan
        self.log: list[dict[str, float]] = []

    def demonstrate(self) -> None:
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
        losses, rate = self._learn()
        self.iteration += 1
        counts = (self.iteration, self.episodes, len(self.dataset), self.gradient_steps, self.success)
        self.log.append(dict(zip(LOG_COLUMNS, (*counts, *losses, rate), strict=True)))

    def _play(self, act: Any, count: int, noise: float) -> None:
        settings = self.settings
        numbers = range(self.episodes, self.episodes + count)
        found = play(act, settings.play(noise), numbers, "training", self.seed, teach=True)
        self.success = self.dataset.add(found, settings.discount, self.iteration, bool(noise))
        self.episodes += count

    def _learn(self) -> tuple[tuple[float, float], float]:
        """Take gradient steps; returns the mean action loss and value loss, and the last learning rate."""
        settings, generator = self.settings, np.random.default_rng([self.seed, self.iteration])
        own = self.dataset.own_rows(settings.value_iterations)
        totals, rate = torch.zeros(2), 0.0
        for step in range(settings.steps):
            progress = (self.iteration + step / settings.steps) / settings.iterations
            rate = settings.learning_rate_at(self.gradient_steps, progress)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            rows = generator.integers(len(self.dataset), size=settings.batch)
            totals += self._gradient_step(rows, own[generator.integers(len(own), size=settings.batch)])
            self.gradient_steps += 1
        action_loss, value_loss = (totals / settings.steps).tolist()
        return (action_loss, value_loss), rate

    def _gradient_step(self, rows: np.ndarray, own: np.ndarray) -> Tensor:
        """One step on the actions of `rows` and the values of `own`; returns both losses."""
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
        self.optimizer.zero_grad(set_to_none=True)
        (action_loss + self.settings.value_weight * value_loss + 0.01 * spread_loss).backward()
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.settings.clip)
        self.optimizer.step()
        return torch.stack([action_loss, value_loss]).detach()

    def state(self) -> dict[str, Tensor]:
        """All that an iteration starts from: network.*, moment1.*, moment2.*, dataset.*."""
        held = {f"network.{name}": tensor for name, tensor in self.tensors.items()}
        for name, weight in self.weights.items():
            moments = self.optimizer.state.get(weight, {})
            held[f"moment1.{name}"] = moments.get("exp_avg", torch.zeros_like(weight))
            held[f"moment2.{name}"] = moments.get("exp_avg_sq", torch.zeros_like(weight))
        held |= {f"dataset.{name}": torch.from_numpy(column) for name, column in self.dataset.columns.items()}
        return {name: tensor.detach().contiguous() for name, tensor in held.items()}

    def restore(self, held: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take up a state written by `state` and `record`."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(held[f"network.{name}"])
        for name, weight in self.weights.items():
            self.optimizer.state[weight] = {
                "step": torch.tensor(float(record["gradient_steps"])),
                "exp_avg": held[f"moment1.{name}"].clone(),
                "exp_avg_sq": held[f"moment2.{name}"].clone(),
            }
        self.dataset = Dataset({name: held[f"dataset.{name}"].numpy().copy() for name in FIELDS})
        self.iteration, self.episodes = record["iteration"], record["episodes"]
        self.gradient_steps, self.log = record["gradient_steps"], record["log"]

    def record(self) -> dict[str, Any]:
        """The counters and the log, as JSON values, and what the run was started with."""
        return {"format": _STATE_FORMAT, "identity": self.identity(), **self.counters(), "log": self.log}

    def counters(self) -> dict[str, int]:
        """How far the run is."""
        return {"iteration": self.iteration, "episodes": self.episodes, "gradient_steps": self.gradient_steps}

    def identity(self) -> dict[str, Any]:
        """What must be equal for a state to be resumed (how often it is saved need not be)."""
        kept = {name: value for name, value in asdict(self.settings).items() if name not in ("save_every", "snapshots")}
        return json.loads(json.dumps({"seed": self.seed, "settings": kept}))


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
    folder = Path(folder)
    run = _Run(TrainingSettings.from_mapping(settings), seed)
    if (folder / STATE).exists():
        _resume(run, folder / STATE)
        progress(f"resumed after iteration {run.iteration}")
        _write_log(run, folder / LOG)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        run.demonstrate()
        _snapshot(run, folder)
    last = run.settings.iterations if stop_after is None else min(stop_after, run.settings.iterations)
    started = time.process_time()
    while run.iteration < last:
        run.iterate()
        _write_log(run, folder / LOG)
        if run.iteration in (*run.settings.snapshots, run.settings.iterations):
            _snapshot(run, folder)
        if run.iteration % run.settings.save_every == 0 or run.iteration == last:
            write_tensors(folder / STATE, run.state(), {"record": json.dumps(run.record())})
        progress(f"{_line(run)} | {time.process_time() - started:.0f} CPU s")


def _line(run: _Run) -> str:
    row = run.log[-1]
    return (
        f"iteration {run.iteration}/{run.settings.iterations} | {len(run.dataset)} rows | "
        f"success {row['success']:.2f} | action loss {row['action_loss']:.4f} | value loss {row['value_loss']:.4f}"
    )


def _snapshot(run: _Run, folder: Path) -> None:
    write_checkpoint(
        folder / f"iteration-{run.iteration:04d}",
        family="franka",
        architecture=run.architecture,
        tensors={name: tensor.detach().clone() for name, tensor in run.tensors.items()},
        training={**run.identity(), **run.counters()},
    )


def _write_log(run: _Run, path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.log)
    write_text(path, text.getvalue())


def _resume(run: _Run, path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if record["format"] != _STATE_FORMAT or record["identity"] != run.identity():
        raise UserError(
            f"{path}: the state of a run with other settings or another seed; choose another folder, or delete this one"
        )
    run.restore(held, record)
