"""AlphaZero training by self-play, budgeted in iterations.

An iteration plays a fixed number of games with the network as it is, then takes gradient steps until each new
position has been drawn `reuse` times on average. Games, opening and noise follow from (seed, episode) and the
batches from (seed, iteration), so that the state between two iterations is the network, the optimiser's moments
and the replay buffer alone: a run that is interrupted and resumed equals one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from policylens.errors import UserError
from policylens.policies.checkpoint import read_checkpoint
from policylens.policies.othello.evaluation import network_evaluator
from policylens.policies.othello.network import Network, initial_network
from policylens.policies.othello.replay import FIELDS, Replay
from policylens.policies.othello.search import Puct
from policylens.policies.othello.selfplay import PlaySettings, play_games
from policylens.policies.run_settings import RunSettings
from policylens.policies.runs import Run, go_on

LOG_COLUMNS = ("iteration", "games", "positions", "gradient_steps", "policy_loss", "value_loss", "learning_rate")


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """What a training run is made of.

    See RunSettings for iterations, snapshots, save_every, learning_rate, warm_up, weight_decay and clip.
    lanes: games played at once. simulations, opening_plies (range), temperature, temperature_plies, exploration,
    reduction, noise_weight, noise_shape: of self-play, see PlaySettings and Puct. inference_dtype: precision of
    the network in self-play ("float32" or "bfloat16"); training itself is in float32.
    replay: positions kept. reuse: how often each position is drawn. search_share: weight of the search's value
    in the value target, the rest being the game's result. batch: rows of a gradient step.
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


class _Run(Run):
    """Self-play and learning from it. positions: played so far."""

    FAMILY, DATA, FIELDS = "othello", "replay", FIELDS
    COUNTERS = ("iteration", "positions", "gradient_steps")

    def __init__(self, settings: TrainingSettings, seed: int) -> None:
        self.network = initial_network(settings.architecture, seed)
        self.start_sha256 = _take_weights(self.network, settings) if settings.start else None
        self.replay, self.positions = Replay(settings.replay), 0
        weights = dict(self.network.named_parameters())
        super().__init__(settings, seed, settings.architecture, self.network.state_dict(), weights, self.replay)

    def begin(self) -> None:
        """Nothing: the first snapshot is the network that the first iteration plays with."""

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
        generator = np.random.default_rng([self.seed, self.iteration])
        losses, rate = self.learn(steps, lambda: self._gradient_step(generator))
        self.iteration += 1
        counts = (self.iteration, self.iteration * settings.games, self.positions, self.gradient_steps)
        self.log.append(dict(zip(LOG_COLUMNS, (*counts, *losses, rate), strict=True)))

    def _gradient_step(self, generator: np.random.Generator) -> torch.Tensor:
        """One step on a batch of the replay buffer; returns the policy loss (nats) and the value loss."""
        batch = self.replay.draw(generator, self.settings.batch, self.settings.search_share)
        planes, policy_target, value_target = map(torch.from_numpy, batch)
        logits, value = self.network(planes)
        policy_loss = functional.cross_entropy(logits, policy_target)
        value_loss = functional.mse_loss(value, value_target)
        self.descend(policy_loss + value_loss)
        return torch.stack([policy_loss, value_loss]).detach()

    def identity(self) -> dict[str, Any]:
        """See :meth:`Run.identity`; where it starts from counts by its weights as well."""
        found = super().identity()
        if self.start_sha256:
            return {**found, "start_sha256": self.start_sha256}
        del found["settings"]["start"]
        return found

    def line(self) -> str:
        """Positions, steps and losses."""
        row = self.log[-1]
        return (
            f"{self.positions} positions | {self.gradient_steps} steps | "
            f"policy loss {row['policy_loss']:.4f} | value loss {row['value_loss']:.4f}"
        )


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
