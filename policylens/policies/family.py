"""What a policy family says of itself without any heavy import.

A family is a folder `policylens/policies/<name>/` whose `family.py` holds `FAMILY`. The other rooms are loaded
only when asked for, by :func:`policylens.policies.registry.room`:

    policy.py       build(record, tensors, device, dtype) -> Policy                             ["run"]
    importing.py    read(path, options) -> (record, tensors) of a foreign checkpoint            ["import"]
    environment.py  rollout(policy, settings, episodes, seed, threads) -> iterator of Rollout  ["rollout"]
    labels.py       label(rows, names) -> dict of arrays                                       ["labels"]
    training.py     train(settings, folder, seed)                                              ["training"]
    strength.py     evaluate(policy, settings, seed) -> dict                                 ["strength"]
    returns.py      returns(policy, settings, episodes, seed, reference)
                    -> {task: {measure: (episodes,)}}                                          ["returns"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policylens.policies.inputs import Input, no_inputs
from policylens.policies.sites import Site

DIVERGENCE = "divergence"
DISTURBANCE = "mean over decisions of KL(reference || policy) of the actions (nats)"
"""What `returns` measures beside a family's own, where it is given a reference."""


def no_files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of a family whose checkpoints, or trainings, need none."""
    return ()


def no_observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The observations of a family that runs on none."""
    return ()


@dataclass(frozen=True)
class Family:
    """A policy family's manifest.

    name: as in config.yaml and policy.json.
    capabilities: what the family can do; what it lacks is absent and config validation says so.
    sites: from a parsed policy.json to the sites, in the order of computation.
    environment: the environment file (envs/<name>.txt) that its policy code needs: to import, capture, label.
    simulator: the environment file that its simulator needs as well: for rollouts, training, strength and returns.
        `environment` if None.
    settings: JSON schema of the settings per capability ("rollout", "training", "strength", "returns"; "import": a
        foreign checkpoint's options).
    labels: label name -> one line saying what it is, with its unit.
    measures: what `returns` gives per episode, `return` among it -> one line saying what it is, with its unit. With a
        reference there is DIVERGENCE too.
    observations: from a parsed policy.json to the names of the source's arrays that make up a batch.
    inputs: from a parsed policy.json to the numbers of an observation that mean something by themselves.
    architecture: from a foreign checkpoint's path on disk and options to the architecture in its policy.json, where
        these say it without heavy imports: sites can then be checked before the import. None elsewhere.
    files: from a checkpoint's import options to the files that it needs besides its path.
    hub_files: patterns of the files that make up a foreign checkpoint, relative to its folder: fetched from the hub
        where it has no policy.json. Empty where only checkpoints in our own form come from there.
    lessons: from a training's settings to the files that it learns from.
    steps_per_episode: about how long an episode is, for estimates before any is recorded.
    rooms: the folder of `policylens/policies` that holds the other rooms, where families share them; its own if None.
    """

    name: str
    capabilities: frozenset[str]
    sites: Callable[[Mapping[str, Any]], tuple[Site, ...]]
    environment: str = "core"
    simulator: str | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)
    observations: Callable[[Mapping[str, Any]], tuple[str, ...]] = no_observations
    inputs: Callable[[Mapping[str, Any]], tuple[Input, ...]] = no_inputs
    architecture: Callable[[Path, Mapping[str, Any]], dict[str, Any]] | None = None
    files: Callable[[Mapping[str, Any]], tuple[str, ...]] = no_files
    hub_files: tuple[str, ...] = ()
    lessons: Callable[[Mapping[str, Any]], tuple[str, ...]] = no_files
    steps_per_episode: float | None = None
    rooms: str | None = None

    @property
    def folders(self) -> list[str]:
        """Of `policylens/policies`: where its code is."""
        return [self.name] if self.rooms is None else [self.name, self.rooms]
