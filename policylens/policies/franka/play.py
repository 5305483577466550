"""Episodes: a policy (or the expert) opens drawers in several simulators side by side.

What an episode is follows from (purpose, seed, number) and the policy alone: its random numbers are a stream of their
own, and the policy is run on blocks of a
fixed number of rows, since matrix products of different sizes may round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.franka.expert import expert
from policylens.policies.franka.layout import ACTIONS, OBSERVATIONS, is_open, progress
from policylens.policies.franka.simulator import Simulator
from policylens.policies.protocol import Policy

BLOCK = 32
PURPOSES = ("training", "rollout", "strength", "returns")
"""What episodes are for. No two purposes share random numbers: strength is measured on starts never trained on."""


class Decisions(NamedTuple):
    """What a policy would do in n places, all float32.

    mean, log_std: (n, 9) of the actions, and the logarithm of their standard deviation. value: (n,). divergence: (n,)
    KL(reference || policy) of the actions, in nats; 0 without a reference.
    """

    mean: NDArray[np.float32]
    log_std: NDArray[np.float32]
    value: NDArray[np.float32]
    divergence: NDArray[np.float32]


Act = Callable[[NDArray[np.float32]], Decisions]
"""Takes observations (n, 23)."""


@dataclass(frozen=True)
class PlaySettings:
    """How episodes are played.

    horizon: most steps of an episode. hold: steps that are still made once the drawer is open.
    sample: draw actions from the policy's distribution, instead of its mean. noise: standard deviation of what is
    added to every action. lanes: simulators side by side.
    """

    horizon: int = 300
    hold: int = 10
    sample: bool = False
    noise: float = 0.0
    lanes: int = BLOCK


class Episode:
    """An episode while it is played. columns: name -> one entry per step so far."""

    def __init__(self, number: int, generator: np.random.Generator, simulator: Simulator) -> None:
        self.number, self.generator, self.simulator = number, generator, simulator
        self.columns: dict[str, list[NDArray | float]] = {}
        self.opened_after: int | None = None
        simulator.reset(generator)
        self.observation = simulator.observation()

    @property
    def length(self) -> int:
        """Steps made."""
        return len(self.columns.get("reward", ()))

    def step(self, action: NDArray[np.float32], **more: NDArray | float) -> None:
        """Note where things are, act, and note the reward."""
        before = self.observation
        state = self.simulator.state() | {"finger_contact": self.simulator.finger_contact()}
        self.simulator.step(action)
        self.observation = self.simulator.observation()
        reward = np.float32(progress(self.observation) - progress(before))
        for name, value in ({"observations": before, "action": action, "reward": reward} | state | more).items():
            self.columns.setdefault(name, []).append(value)
        if self.opened_after is None and is_open(self.observation):
            self.opened_after = self.length

    def over(self, settings: PlaySettings) -> bool:
        """Whether no step is to follow."""
        held = self.opened_after is not None and self.length >= self.opened_after + settings.hold
        return held or self.length >= settings.horizon

    def arrays(self) -> dict[str, NDArray]:
        """Name -> (length, ...)."""
        return {name: np.stack(values) for name, values in self.columns.items()}


def stream(purpose: str, seed: int, number: int) -> np.random.Generator:
    """The random numbers of an episode."""
    return np.random.default_rng([PURPOSES.index(purpose), seed, number])


def acting(policy: Policy, reference: Policy | None = None) -> Act:
    """A policy as it runs, whatever its `run` does: an edited one acts as edited. UserError if it cannot act here.

    reference: a policy that is asked in the same places, and does not act.
    """

    def act(observations: NDArray[np.float32]) -> Decisions:
        rows = np.zeros((-(-len(observations) // BLOCK) * BLOCK, OBSERVATIONS), np.float32)
        rows[: len(observations)] = observations
        with torch.inference_mode():
            found = [_decided(policy, reference, block) for block in rows.reshape(-1, BLOCK, OBSERVATIONS)]
        return Decisions(*(np.concatenate(parts)[: len(observations)] for parts in zip(*found, strict=True)))

    architecture = policy.record["architecture"]
    if (architecture["observations"], architecture["actions"], architecture["head"]) != (
        OBSERVATIONS,
        ACTIONS,
        "gaussian",
    ):
        raise UserError(
            f"this policy cannot open drawers: it takes {architecture['observations']} observations and has "
            f"{architecture['actions']} {architecture['head']} actions; the simulator has {OBSERVATIONS} and "
            f"{ACTIONS} gaussian ones"
        )
    return act


def _decided(policy: Policy, reference: Policy | None, observations: NDArray[np.float32]) -> Decisions:
    batch = {"observations": observations}
    one = policy.run(batch)
    apart = torch.zeros(len(observations)) if reference is None else reference.run(batch).heads.divergence(one.heads)
    parts = (one.heads.mu, one.heads.log_std.expand_as(one.heads.mu), one.value, apart)
    return Decisions(*(part.float().cpu().numpy() for part in parts))


def play(
    act: Act | None,
    settings: PlaySettings,
    numbers: Sequence[int],
    purpose: str,
    seed: int,
    teach: bool = False,
) -> Iterator[Episode]:
    """Play the numbered episodes; yields them as they end.

    act: None for the expert. Every step holds observations, action, reward, finger_contact, qpos, qvel,
    cabinet_position; value and divergence (see `Decisions`) where a policy plays; and with `teach` the expert's action
    there as `taught`.
    """
    waiting = iter(numbers)
    simulators = [Simulator() for _ in range(min(settings.lanes, len(numbers)))]
    lanes = [
        Episode(number, stream(purpose, seed, number), simulator)
        for simulator, number in zip(simulators, waiting, strict=False)
    ]
    while lanes:
        _step(lanes, act, settings, teach)
        still = []
        for episode in lanes:
            if not episode.over(settings):
                still.append(episode)
                continue
            yield episode
            if (number := next(waiting, None)) is not None:
                still.append(Episode(number, stream(purpose, seed, number), episode.simulator))
        lanes = still


def _step(lanes: Sequence[Episode], act: Act | None, settings: PlaySettings, teach: bool) -> None:
    if act is not None:
        found = act(np.stack([episode.observation for episode in lanes]))
    for row, episode in enumerate(lanes):
        more: dict[str, NDArray | float] = {}
        if act is None or teach:
            more["taught"] = expert(episode.simulator)
        if act is not None:
            more |= {"value": found.value[row], "divergence": found.divergence[row]}
        action = found.mean[row] if act is not None else more["taught"]
        if settings.sample and act is not None:
            action = action + np.exp(found.log_std[row]) * episode.generator.standard_normal(ACTIONS)
        if settings.noise:
            action = action + settings.noise * episode.generator.standard_normal(ACTIONS)
        episode.step(action.astype(np.float32), **more)
