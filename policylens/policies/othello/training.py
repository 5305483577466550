"""AlphaZero training by self-play, budgeted in iterations.

An iteration plays a fixed number of games with the network as it is, then takes gradient steps until each new
position has been drawn `reuse` times on average. Games, opening and noise follow from (seed, episode) and the
batches from (seed, iteration), so that the state between two iterations is the network, the optimiser's moments
and the replay buffer alone: a run that is interrupted and resumed equals one that was not.
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
from torch.nn import functional

from policylens.errors import UserError
from policylens.policies.checkpoint import read_checkpoint, write_checkpoint
from policylens.policies.othello.evaluation import network_evaluator
from policylens.policies.othello.network import Network, initial_network
from policylens.policies.othello.replay import FIELDS, Replay
from policylens.policies.othello.search import Puct
from policylens.policies.othello.selfplay import PlaySettings, play_games
from policylens.stores.files import write_tensors, write_text

STATE = "state.safetensors"
LOG = "training_log.csv"
LOG_COLUMNS = ("iteration", "games", "positions", "gradient_steps", "policy_loss", "value_loss", "learning_rate")
_STATE_FORMAT = 1


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is made of.

    iterations: length of the run, which the learning rate's schedule spans. snapshots: iterations after which a
    checkpoint is written; 0 (the untrained network) and the last are always among them. save_every: iterations
    between states to resume from.
    lanes: games played at once. simulations, opening_plies (range), temperature, temperature_plies, exploration,
    reduction, noise_weight, noise_shape: of self-play, see PlaySettings and Puct. inference_dtype: precision of
    the network in self-play ("float32" or "bfloat16"); training itself is in float32.
    replay: positions kept. reuse: how often each position is drawn. search_share: weight of the search's value
    in the value target, the rest being the game's result. learning_rate: peak, after a linear warm-up of
    `warm_up` steps and before a cosine to a fiftieth. clip: largest gradient norm.
    start: folder of a checkpoint to start from instead of a random network.
    """

    iterations: int
    architecture: Mapping[str, int] = field(default_factory=lambda: {"width": 256, "blocks": 4, "hidden": 256})
    snapshots: tuple[int, ...] = ()
    save_every: int = 5
    games: int = 512
    lanes: int = 256
    simulations: int = 64
    opening_plies: tuple[int, int] = (0, 12)
    temperature: float = 1.0
    temperature_plies: int = 10
    exploration: float = 1.5
    reduction: float = 0.2
    noise_weight: float = 0.25
    noise_shape: float = 0.5
    inference_dtype: str = "float32"
    replay: int = 150_000
    reuse: float = 10.0
    search_share: float = 0.3
    batch: int = 512
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 1e-3
    clip: float = 1.0
    start: str | None = None

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """Settings from a config block; an unknown or missing key is a UserError."""
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise UserError(f"unknown training settings {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if "iterations" not in settings:
            raise UserError("training settings lack `iterations`, the length of the run")
        values = dict(settings)
        for name in ("snapshots", "opening_plies"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)

    @property
    def play(self) -> PlaySettings:
        """How the games of self-play are played; floats always, as each mixture of types is compiled anew."""
        return PlaySettings(
            simulations=self.simulations,
            first_opening=self.opening_plies[0],
            last_opening=self.opening_plies[1],
            temperature=float(self.temperature),
            temperature_plies=self.temperature_plies,
            noise_weight=float(self.noise_weight),
            noise_shape=float(self.noise_shape),
        )

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Learning rate at a gradient step (counted from 0) when `progress` in [0, 1] of the run is done."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


class _Run:
    """A training run between two iterations."""

    def __init__(self, settings: TrainingSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.network = initial_network(settings.architecture, seed)
        self.start_sha256 = _take_weights(self.network, settings) if settings.start else None
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.replay = Replay(settings.replay)
        self.iteration, self.positions, self.gradient_steps = 0, 0, 0
        self.log: list[dict[str, float]] = []

    def iterate(self) -> None:
        """Play one iteration's games and train on them."""
        settings = self.settings
        first = self.iteration * settings.games
        evaluate = network_evaluator(self.network, getattr(torch, settings.inference_dtype))
        puct = Puct(float(settings.exploration), float(settings.reduction))
        episodes = range(first, first + settings.games)
        games = play_games(evaluate, settings.play, puct, episodes, self.seed, settings.lanes)
        fresh = self.replay.add(sorted(games, key=lambda game: int(game[1]["episode"])))
        self.positions += fresh
        steps = max(1, round(fresh * settings.reuse / settings.batch))
        losses, rate = self._train(steps)
        self.iteration += 1
        counts = (self.iteration, self.iteration * settings.games, self.positions, self.gradient_steps)
        self.log.append(dict(zip(LOG_COLUMNS, (*counts, *losses, rate), strict=True)))

    def _train(self, steps: int) -> tuple[tuple[float, float], float]:
        """Take gradient steps; returns the mean policy loss (nats) and value loss, and the last learning rate."""
        generator = np.random.default_rng([self.seed, self.iteration])
        totals, rate = torch.zeros(2), 0.0
        for step in range(steps):
            progress = (self.iteration + step / steps) / self.settings.iterations
            rate = self.settings.learning_rate_at(self.gradient_steps, progress)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            totals += self._gradient_step(generator)
            self.gradient_steps += 1
        policy_loss, value_loss = (totals / steps).tolist()
        return (policy_loss, value_loss), rate

    def _gradient_step(self, generator: np.random.Generator) -> torch.Tensor:
        settings = self.settings
        batch = self.replay.draw(generator, settings.batch, settings.search_share)
        planes, policy_target, value_target = map(torch.from_numpy, batch)
        logits, value = self.network(planes)
        policy_loss = functional.cross_entropy(logits, policy_target)
        value_loss = functional.mse_loss(value, value_target)
        self.optimizer.zero_grad(set_to_none=True)
        (policy_loss + value_loss).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimizer.step()
        return torch.stack([policy_loss, value_loss]).detach()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that an iteration starts from: network.*, moment1.*, moment2.*, replay.*."""
        held = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            held[f"moment1.{name}"] = moments.get("exp_avg", torch.zeros_like(parameter))
            held[f"moment2.{name}"] = moments.get("exp_avg_sq", torch.zeros_like(parameter))
        for name, column in self.replay.columns.items():
            signed = column.view(f"i{column.itemsize}") if column.dtype.kind == "u" else column
            held[f"replay.{name}"] = torch.from_numpy(signed)
        return {name: tensor.detach().contiguous() for name, tensor in held.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
        """Take up a state written by `tensors` and `record`."""
        self.network.load_state_dict(_group(tensors, "network."))
        for name, parameter in self.network.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(record["gradient_steps"])),
                "exp_avg": tensors[f"moment1.{name}"].clone(),
                "exp_avg_sq": tensors[f"moment2.{name}"].clone(),
            }
        columns = _group(tensors, "replay.")
        self.replay.columns = {name: columns[name].numpy().view(dtype).copy() for name, (dtype, _) in FIELDS.items()}
        self.iteration, self.positions = record["iteration"], record["positions"]
        self.gradient_steps, self.log = record["gradient_steps"], record["log"]

    def record(self) -> dict[str, Any]:
        """The counters and the log, as JSON values, and what the run was started with."""
        return {
            "format": _STATE_FORMAT,
            "identity": self.identity(),
            "iteration": self.iteration,
            "positions": self.positions,
            "gradient_steps": self.gradient_steps,
            "log": self.log,
        }

    def identity(self) -> dict[str, Any]:
        """What must be equal for a state to be resumed (how often it is saved need not be)."""
        left_out = {"save_every", "snapshots"} | (set() if self.settings.start else {"start"})
        kept = {name: value for name, value in asdict(self.settings).items() if name not in left_out}
        started = {"start_sha256": self.start_sha256} if self.start_sha256 else {}
        return json.loads(json.dumps({"seed": self.seed, "settings": kept, **started}))


def _take_weights(network: Network, settings: TrainingSettings) -> str:
    """Load the checkpoint that a run starts from; returns the sha256 of its weights."""
    record, tensors = read_checkpoint(Path(settings.start))
    if record["family"] != "othello" or record["architecture"] != dict(settings.architecture):
        raise UserError(
            f"{settings.start}: is a checkpoint of another family or architecture; start from one with "
            f"{dict(settings.architecture)}"
        )
    network.load_state_dict(tensors)
    return record["weights"]["sha256"]


def _group(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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
        _snapshot(run, folder)
    last = run.settings.iterations if stop_after is None else min(stop_after, run.settings.iterations)
    started = time.process_time()
    while run.iteration < last:
        run.iterate()
        _write_log(run, folder / LOG)
        if run.iteration in (*run.settings.snapshots, run.settings.iterations):
            _snapshot(run, folder)
        if run.iteration % run.settings.save_every == 0 or run.iteration == last:
            _save(run, folder / STATE)
        progress(f"{_line(run)} | {time.process_time() - started:.0f} CPU s")


def _line(run: _Run) -> str:
    row = run.log[-1]
    return (
        f"iteration {run.iteration}/{run.settings.iterations} | {run.positions} positions | "
        f"{run.gradient_steps} steps | policy loss {row['policy_loss']:.4f} | value loss {row['value_loss']:.4f}"
    )


def _snapshot(run: _Run, folder: Path) -> None:
    counters = {"iteration": run.iteration, "positions": run.positions, "gradient_steps": run.gradient_steps}
    write_checkpoint(
        folder / f"iteration-{run.iteration:04d}",
        family="othello",
        architecture=dict(run.settings.architecture),
        tensors={name: tensor.contiguous() for name, tensor in run.network.state_dict().items()},
        training={**run.identity(), **counters},
    )


def _write_log(run: _Run, path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.log)
    write_text(path, text.getvalue())


def _save(run: _Run, path: Path) -> None:
    write_tensors(path, run.tensors(), {"record": json.dumps(run.record())})


def _resume(run: _Run, path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if record["format"] != _STATE_FORMAT or record["identity"] != run.identity():
        raise UserError(
            f"{path}: the state of a run with other settings or another seed; choose another folder, or delete this one"
        )
    run.restore(tensors, record)
