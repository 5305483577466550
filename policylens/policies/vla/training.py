"""A small pi0.5 learns LIBERO's tasks from scripted demonstrations, and from what the expert says of its own episodes.

The loss is LeRobot's: flow matching on chunks of actions. The first iterations see the demonstrations alone; in the
later ones the policy plays some episodes, with the expert asked at every step (DAgger: Ross, Gordon, Bagnell, AISTATS
2011), and learns from all frames. Episodes follow from (seed, number), batches from (seed, iteration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.run_settings import RunSettings
from policylens.policies.runs import Run, go_on
from policylens.policies.vla.architecture import TIED
from policylens.policies.vla.frames import SLUGS, Frames, fields, of_demonstrations, of_played
from policylens.policies.vla.initial import architecture_of, initial_network, tasks_of
from policylens.policies.vla.libero.tasks import TASKS, Task
from policylens.policies.vla.play import PlaySettings, play
from policylens.policies.vla.policy import VLAPolicy

LOG_COLUMNS = (
    "iteration",
    "episodes",
    "frames",
    "gradient_steps",
    "success",
    "loss",
    "first_action_loss",
    "learning_rate",
)


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """What a training run is made of.

    See RunSettings for iterations, snapshots, save_every, learning_rate, warm_up, weight_decay and clip.
    demonstrations: index.json of demonstrations (`results/demonstrations/{name}/index.json`). architecture: sizes that
    differ from the defaults in initial.py. size: pixels of a picture's side. look, replan, horizon, assets: see
    PlaySettings. steps: gradient steps per iteration. batch: frames of each. alone: iterations before the policy plays.
    episodes: that it plays per iteration then, of each task.
    """

    iterations: int
    demonstrations: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    snapshots: tuple[int, ...] = ()
    save_every: int = 1
    size: int = 64
    look: str = "plain"
    replan: int = 4
    horizon: int = 120
    assets: str | None = None
    steps: int = 500
    batch: int = 32
    learning_rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    alone: int = 8
    episodes: int = 4

    def play(self, tasks: Sequence[Task]) -> PlaySettings:
        """How episodes of these tasks are played."""
        return PlaySettings(
            pairs=tuple(dict.fromkeys(task.pair.name for task in tasks)),
            instructions=tuple(task.instruction for task in tasks),
            horizon=self.horizon,
            replan=self.replan,
            size=self.size,
            look=self.look,
            assets=self.assets,
        )


class _Run(Run):
    """episodes: that the policy has played, of each task. success: share of the latest that were successful."""

    FAMILY, DATA = "pi05", "frames"
    COUNTERS = ("iteration", "episodes", "gradient_steps")

    def __init__(self, settings: TrainingSettings, seed: int) -> None:
        self.shown = Frames(settings.size)
        self.shown.add(of_demonstrations(Path(settings.demonstrations), settings.size))
        architecture = architecture_of(settings.architecture, self.shown)
        self.network = initial_network(architecture, seed)
        weights = dict(self.network.named_parameters())
        tensors = {name: tensor for name, tensor in self.network.state_dict(keep_vars=True).items() if name != TIED}
        self.FIELDS = fields(settings.size)
        self.policy = VLAPolicy({"family": self.FAMILY, "architecture": architecture}, self.network)
        self.episodes, self.success = 0, math.nan
        super().__init__(settings, seed, architecture, tensors, weights, Frames(settings.size))

    def begin(self) -> None:
        """Nothing comes before the first iteration: the demonstrations are there."""

    def iterate(self) -> None:
        """Let the policy play, once it has learnt from the demonstrations alone, and learn from all frames."""
        if self.iteration >= self.settings.alone and self.settings.episodes:
            self._play()
        learner = Learner(self.policy, [self.shown, self.recorded])
        generator = np.random.default_rng([self.seed, self.iteration])
        self.network.train()
        losses, rate = self.learn(self.settings.steps, lambda: self._gradient_step(learner, generator))
        self.network.eval()
        self.iteration += 1
        counts = (self.iteration, self.episodes, learner.frames, self.gradient_steps, self.success)
        self.log.append(dict(zip(LOG_COLUMNS, (*counts, *losses, rate), strict=True)))

    def _play(self) -> None:
        self.network.eval()
        numbers = range(self.episodes, self.episodes + self.settings.episodes)
        wanted = self.settings.play(tasks_of(self.shown))
        starts = [(task, number) for task in wanted.tasks for number in numbers]
        found = list(play(self.policy, wanted, starts, "training", self.seed, teach=True))
        self.recorded.add([of_played(played) for played in found])
        self.success = float(np.mean([played.fulfilled is not None for played in found]))
        self.episodes += self.settings.episodes

    def _gradient_step(self, learner: Learner, generator: np.random.Generator) -> Tensor:
        loss = learner.loss(generator, self.settings.batch)
        self.descend(loss.mean())
        return torch.stack([loss.detach().mean(), loss.detach()[:, 0].mean()])

    def lessons(self) -> dict[str, Any]:
        """tasks: the instructions, which are what is played where nothing else is asked for."""
        return {"tasks": [task.instruction for task in tasks_of(self.shown)]}

    def line(self) -> str:
        """What progress says of the latest iteration."""
        last = self.log[-1]
        played = "" if math.isnan(last["success"]) else f" | success {last['success']:.2f}"
        return f"loss {last['loss']:.4f}{played} | {last['frames']} frames"


class Learner:
    """Frames made ready for LeRobot's training pass. frames: how many there are."""

    def __init__(self, policy: VLAPolicy, parts: list[Frames]) -> None:
        self.policy = policy
        kept = [part for part in parts if len(part)]
        self.frames = sum(len(part) for part in kept)
        self.columns = {name: np.concatenate([part.columns[name] for part in kept]) for name in kept[0].columns}
        length = policy.architecture["chunk"]
        chunks = [part.columns["taught"][part.chunks(length)] for part in kept]
        self.actions = policy.normalised["action"](torch.from_numpy(np.concatenate(chunks)))
        states = policy.normalised["state"](torch.from_numpy(self.columns["state"])).numpy()
        texts = [TASKS[SLUGS[task]].instruction for task in self.columns["task"]]
        prompt = policy.prompts(texts, states)
        self.ids, self.valid = torch.from_numpy(prompt.ids), torch.from_numpy(prompt.kinds >= 0)

    def loss(self, generator: np.random.Generator, batch: int) -> Tensor:
        """Squared error of the velocity, (batch, chunk, actions), on frames, noise and times that are drawn.

        Times as LeRobot draws them: 0.001 + 0.999 Beta(1.5, 1).
        """
        rows = generator.integers(self.frames, size=batch)
        actions = self.actions[rows]
        noise = torch.from_numpy(generator.standard_normal(actions.shape, dtype=np.float32))
        time = torch.from_numpy((0.001 + 0.999 * generator.beta(1.5, 1.0, batch)).astype(np.float32))
        cameras = [torch.from_numpy(self.columns[name][rows]) for name in self.policy.architecture["cameras"]]
        images = [(camera.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous() for camera in cameras]
        seen = [torch.ones(batch, dtype=torch.bool)] * len(images)
        return self.policy.network.forward(images, seen, self.ids[rows], self.valid[rows], actions, noise, time)


def train(
    settings: Mapping[str, Any],
    folder: Path,
    seed: int,
    progress: Callable[[str], None] = print,
    stop_after: int | None = None,
) -> None:
    """Train a pi0.5 and write its checkpoints, a log, and the state to resume from into the folder.

    settings: see TrainingSettings. stop_after: end the call after this iteration although the run is longer.
    Raises UserError for settings that are unknown, and demonstrations that do not fit.
    """
    wanted = TrainingSettings.from_mapping(settings)
    if not wanted.demonstrations:
        raise UserError("training settings lack `demonstrations`: the index.json of what is to be imitated")
    go_on(_Run(wanted, seed), Path(folder), progress, stop_after)
