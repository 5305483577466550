"""Episodes: a policy does what it is told in LIBERO's simulator, one episode after the other.

An episode is an initial state and an instruction. Which state it is follows from (purpose, seed, number) alone, and so
do the random numbers of the policy's flow: two instructions, or two policies, are compared on the same of both.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.protocol import Policy
from policylens.policies.vla.libero.episode import Episode
from policylens.policies.vla.libero.expert import expert
from policylens.policies.vla.libero.tasks import PAIRS, TASKS, Task
from policylens.policies.vla.libero.tasks import task as task_named
from policylens.policies.vla.normalisation import Normalisation
from policylens.stores.texts import encode_text

PURPOSES = ("demonstrations", "rollout", "returns", "strength", "training")
_APART = 1_000_000
"""Initial states of different purposes are numbered so far apart."""


@dataclass(frozen=True)
class PlaySettings:
    """How episodes are played.

    pairs: of tasks, by name. instructions: those of their tasks that are played; all if empty. horizon: most steps.
    Where neither is named, those that the policy has learnt, by its record.
    hold: steps still made once the instruction is fulfilled. replan: actions of a plan that are executed before the
    next plan. noise: standard deviation of what is added to the six motions of every action. size: pixels of a
    picture's side. look: see `policylens.policies.vla.libero.simulator`. assets: LIBERO's meshes; None: where they are
    looked for otherwise.
    """

    pairs: tuple[str, ...]
    instructions: tuple[str, ...] = ()
    horizon: int = 120
    hold: int = 5
    replan: int = 4
    noise: float = 0.0
    size: int = 64
    look: str = "plain"
    assets: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], record: Mapping[str, Any]) -> PlaySettings:
        """From a block of config.yaml, and the policy's record; UserError for what is unknown."""
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise UserError(f"unknown settings {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if "pairs" not in settings:
            settings = {**settings, **_wanted(settings.get("instructions") or learnt(record))}
        found = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
        if wrong := [pair for pair in found.pairs if pair not in PAIRS]:
            raise UserError(f"there is no pair of tasks {wrong[0]!r}; there are: {', '.join(PAIRS)}")
        known = [task.instruction for task in TASKS.values() if task.pair.name in found.pairs]
        if wrong := [text for text in found.instructions if text not in known]:
            raise UserError(f"the pairs {', '.join(found.pairs)} have no instruction {wrong[0]!r}; they have: {known}")
        return found

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the pairs, a pair's two together."""
        own = [task for name in self.pairs for task in TASKS.values() if task.pair.name == name]
        return tuple(task for task in own if not self.instructions or task.instruction in self.instructions)


def learnt(record: Mapping[str, Any]) -> list[str]:
    """Instructions that a policy has learnt, by its record; UserError where that does not say."""
    found = record.get("training", {}).get("tasks")
    if not found:
        raise UserError(
            "the policy's record does not say which tasks it has learnt; name `pairs` in the settings: of "
            + ", ".join(PAIRS)
        )
    return list(found)


def _wanted(instructions: Sequence[str]) -> dict[str, list[str]]:
    """Settings by which these are played, and no others."""
    tasks = [task_named(instruction) for instruction in instructions]
    return {
        "pairs": [name for name in PAIRS if any(one.pair.name == name for one in tasks)],
        "instructions": [one.instruction for one in tasks],
    }


@dataclass
class Played:
    """What happened in an episode.

    columns: name -> one entry per step: image, wrist_image, state, action, object_joint; taught where the expert was
    asked. fulfilled, undone: steps until the episode's task, and the other of its pair, had succeeded; None if never.
    moved: how far the pair's measure went the way of the instruction (m or rad). divergence: per decision.
    """

    task: Task
    number: int
    columns: dict[str, list[NDArray | float]] = field(default_factory=dict)
    fulfilled: int | None = None
    undone: int | None = None
    moved: float = 0.0
    divergence: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Steps made."""
        return len(self.columns.get("action", ()))

    def arrays(self) -> dict[str, NDArray]:
        """Name -> (length, ...)."""
        return {name: np.stack(values) for name, values in self.columns.items()}


_simulators: dict[tuple[int, str, str | None], Episode] = {}
"""Building a scene takes seconds: a process keeps its own. There is one at a time (libero/episode.py)."""


@functools.cache
def _close_at_exit() -> None:
    """To be asked for once a renderer is there: it registers its own end, and the later one comes first."""

    def close() -> None:
        for episode in _simulators.values():
            episode.close()

    atexit.register(close)


def simulator(settings: PlaySettings) -> Episode:
    """This process's simulator."""
    key = (settings.size, settings.look, settings.assets)
    if key not in _simulators:
        for older in _simulators.values():
            older.close()
        _simulators.clear()
        _simulators[key] = Episode(settings.size, settings.look, settings.assets)
    return _simulators[key]


def play(
    policy: Policy,
    settings: PlaySettings,
    starts: Sequence[tuple[Task, int]],
    purpose: str,
    seed: int,
    reference: Policy | None = None,
    teach: bool = False,
) -> Iterator[Played]:
    """Play the episodes (task, number) in the given order. reference: asked at every decision, and does not act.

    teach: ask the expert at every step what it would do. Consecutive episodes of one pair spare building its scene.
    """
    episode, offset = simulator(settings), PURPOSES.index(purpose) * _APART
    for task, number in starts:
        flow = np.random.default_rng([PURPOSES.index(purpose), seed, number])
        found = Played(task, number)
        observation = episode.reset(task, seed, offset + number)
        _close_at_exit()
        start, plan = episode.simulator.measure(), np.empty((0, 7))
        while found.length < settings.horizon and not _over(found, settings):
            if len(plan) == 0:
                plan = _planned(policy, reference, observation, flow, found)[: settings.replan]
            action, plan = plan[0], plan[1:]
            moves = action[:6] + settings.noise * flow.standard_normal(6)
            action = np.clip(np.concatenate([moves, action[6:]]), -1, 1).astype(np.float32)
            measure = episode.simulator.measure()
            noted = {"object_joint": measure, "action": action}
            if teach:
                noted["taught"] = expert(episode.simulator, task).astype(np.float32)
            for name, value in ({k: v for k, v in observation.items() if k != "instruction"} | noted).items():
                found.columns.setdefault(name, []).append(value)
            observation = episode.step(action)
            _judge(found, episode, task)
        found.moved = (episode.simulator.measure() - start) * task.sign
        yield found


def _over(found: Played, settings: PlaySettings) -> bool:
    return found.fulfilled is not None and found.length >= found.fulfilled + settings.hold


def _judge(found: Played, episode: Episode, task: Task) -> None:
    if found.fulfilled is None and episode.success(task):
        found.fulfilled = found.length
    if found.undone is None and episode.success(task.contrary):
        found.undone = found.length


def _planned(
    policy: Policy,
    reference: Policy | None,
    observation: Mapping[str, Any],
    flow: np.random.Generator,
    found: Played,
) -> NDArray:
    """The plan's actions in their own units (chunk, 7); notes how far the reference's plan is from it."""
    architecture = policy.record["architecture"]
    noise = flow.standard_normal((1, architecture["chunk"], architecture["max_action"]), dtype=np.float32)
    batch = {name: np.asarray(value)[None] for name, value in observation.items() if name != "instruction"}
    batch |= {"instruction": encode_text(observation["instruction"])[None], "noise": noise}
    with torch.inference_mode():
        heads = policy.run(batch).heads
        if reference is not None:
            found.divergence.append(float(reference.run(batch).heads.divergence(heads)))
    back = Normalisation(architecture["normalisation"]["action"], architecture["action"])
    return back.back(heads.actions.float().cpu())[0].numpy()
