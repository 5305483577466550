"""Training runs of policies, budgeted in iterations, that equal one another however often they are interrupted.

The state between two iterations is the network, the optimiser's moments and what has been recorded so far; all that
is drawn in an iteration has to follow from (seed, iteration) or (seed, episode).
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.run_settings import RunSettings
from policylens.stores.files import write_tensors
from policylens.stores.tabular import write_csv

STATE = "state.safetensors"
LOG = "training_log.csv"
_STATE_FORMAT = 1


class Recorded(Protocol):
    """What a run has recorded and learns from. columns: name -> (n, ...), all of the same length."""

    columns: dict[str, NDArray]


class Run(ABC):
    """A training run between two iterations.

    settings, seed: what it was started with. tensors: all of the network's. weights: those that are trained.
    recorded: see :class:`Recorded`. iteration, gradient_steps: how many are done. log: a row per iteration.

    A subclass says: FAMILY, as checkpoints name it. DATA: what states call `recorded`. FIELDS: dtype and shape of each
    of its columns. COUNTERS: attributes that say how far the run is, in the order in which files have them.
    """

    FAMILY: str
    DATA: str
    FIELDS: Mapping[str, tuple[type, tuple[int, ...]]]
    COUNTERS: tuple[str, ...]

    def __init__(
        self,
        settings: RunSettings,
        seed: int,
        architecture: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        recorded: Recorded,
    ) -> None:
        self.settings, self.seed, self.architecture = settings, seed, dict(architecture)
        self.tensors, self.weights, self.recorded = dict(tensors), dict(weights), recorded
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.iteration, self.gradient_steps = 0, 0
        self.log: list[dict[str, float]] = []

    @abstractmethod
    def begin(self) -> None:
        """What comes before the first snapshot of a new run."""

    @abstractmethod
    def iterate(self) -> None:
        """Do one iteration, count it and append a row to the log."""

    @abstractmethod
    def line(self) -> str:
        """What progress says of the latest iteration."""

    def learn(self, steps: int, gradient_step: Callable[[], Tensor]) -> tuple[list[float], float]:
        """Take an iteration's gradient steps.

        gradient_step: takes one (see `descend`) and returns its losses (2,). Returns their means over the steps, and
        the last learning rate.
        """
        totals, rate = torch.zeros(2), 0.0
        for step in range(steps):
            progress = (self.iteration + step / steps) / self.settings.iterations
            rate = self.settings.learning_rate_at(self.gradient_steps, progress)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            totals += gradient_step()
            self.gradient_steps += 1
        return (totals / steps).tolist(), rate

    def descend(self, loss: Tensor) -> None:
        """One clipped step of the optimiser down the gradient of a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.settings.clip)
        self.optimizer.step()

    def lessons(self) -> dict[str, Any]:
        """What the policy has learnt, for its record: JSON values."""
        return {}

    def counters(self) -> dict[str, int]:
        """How far the run is."""
        return {name: getattr(self, name) for name in self.COUNTERS}

    def identity(self) -> dict[str, Any]:
        """What must be equal for a state to be resumed, as JSON values (how often it is saved need not be)."""
        kept = {name: value for name, value in asdict(self.settings).items() if name not in ("save_every", "snapshots")}
        return json.loads(json.dumps({"seed": self.seed, "settings": kept}))

    def record(self) -> dict[str, Any]:
        """The counters and the log, as JSON values, and what the run was started with."""
        return {"format": _STATE_FORMAT, "identity": self.identity(), **self.counters(), "log": self.log}

    def state(self) -> dict[str, Tensor]:
        """All that an iteration starts from: network.*, moment1.*, moment2.*, and the columns of what is recorded."""
        held = {f"network.{name}": tensor for name, tensor in self.tensors.items()}
        for name, weight in self.weights.items():
            moments = self.optimizer.state.get(weight, {})
            held[f"moment1.{name}"] = moments.get("exp_avg", torch.zeros_like(weight))
            held[f"moment2.{name}"] = moments.get("exp_avg_sq", torch.zeros_like(weight))
        for name, column in self.recorded.columns.items():
            signed = column.view(f"i{column.itemsize}") if column.dtype.kind == "u" else column
            held[f"{self.DATA}.{name}"] = torch.from_numpy(signed)
        return {name: tensor.detach().contiguous() for name, tensor in held.items()}

    @torch.no_grad()
    def restore(self, held: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take up a state written by `state` and `record`."""
        for name, tensor in self.tensors.items():
            tensor.copy_(held[f"network.{name}"])
        for name, weight in self.weights.items():
            self.optimizer.state[weight] = {
                "step": torch.tensor(float(record["gradient_steps"])),
                "exp_avg": held[f"moment1.{name}"].clone(),
                "exp_avg_sq": held[f"moment2.{name}"].clone(),
            }
        self.recorded.columns = {
            name: held[f"{self.DATA}.{name}"].numpy().view(dtype).copy() for name, (dtype, _) in self.FIELDS.items()
        }
        for name in self.COUNTERS:
            setattr(self, name, record[name])
        self.log = record["log"]


def go_on(run: Run, folder: Path, progress: Callable[[str], None], stop_after: int | None = None) -> None:
    """Carry a run out in a folder, from its beginning or from the state that is there.

    folder: receives iteration-0000, ... (checkpoint folders), training_log.csv, and the state to resume from.
    progress: receives a line per iteration. stop_after: end the call after this iteration although the run is longer.
    Raises UserError if the folder holds a state of a different run.
    """
    if (folder / STATE).exists():
        _resume(run, folder / STATE)
        progress(f"resumed after iteration {run.iteration}")
        write_csv(folder / LOG, run.log)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        run.begin()
        _snapshot(run, folder)
    last = run.settings.iterations if stop_after is None else min(stop_after, run.settings.iterations)
    started = time.process_time()
    while run.iteration < last:
        run.iterate()
        write_csv(folder / LOG, run.log)
        if run.iteration in (*run.settings.snapshots, run.settings.iterations):
            _snapshot(run, folder)
        if run.iteration % run.settings.save_every == 0 or run.iteration == last:
            write_tensors(folder / STATE, run.state(), {"record": json.dumps(run.record())})
        done = f"iteration {run.iteration}/{run.settings.iterations}"
        progress(f"{done} | {run.line()} | {time.process_time() - started:.0f} CPU s")


def _snapshot(run: Run, folder: Path) -> None:
    write_checkpoint(
        folder / f"iteration-{run.iteration:04d}",
        family=run.FAMILY,
        architecture=run.architecture,
        tensors=run.tensors,
        training={**run.identity(), **run.counters(), **run.lessons()},
    )


def _resume(run: Run, path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if record["format"] != _STATE_FORMAT or record["identity"] != run.identity():
        raise UserError(
            f"{path}: the state of a run with other settings or another seed; choose another folder, or delete this one"
        )
    run.restore(held, record)
