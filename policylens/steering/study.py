"""A steering study: try candidates, choose the best, confirm them on other episodes, beside random directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policylens.steering.candidate import Candidate
from policylens.steering.controls import Controls
from policylens.steering.goal import Goal, choose, goal_of
from policylens.steering.side_by_side import Work, side_by_side
from policylens.steering.world import World, mean_of_tasks, stacked, tasks_of
from policylens.stores.shelf import Arrays, Shelf


@dataclass(frozen=True)
class Settings:
    """goal: what candidates are chosen by. choosing, confirming: episodes of each. count: how many are confirmed.

    directions: controls of each kind, per confirmed candidate. control_episodes: of each, the first of those of
    confirming. seed: of controls and resampled rows.
    """

    goal: Goal
    choosing: int = 40
    confirming: int = 200
    count: int = 3
    directions: int = 200
    control_episodes: int = 10
    seed: int = 0


def settings_of(block: Mapping[str, Any]) -> Settings:
    """From a block of config.yaml with its defaults filled in."""
    return Settings(
        goal=goal_of(block["goal"]),
        choosing=block["episodes"]["choose"],
        confirming=block["episodes"]["confirm"],
        count=block["confirm"],
        directions=block["controls"]["directions"],
        control_episodes=block["controls"]["episodes"],
        seed=block["seed"],
    )


@dataclass(frozen=True)
class Found:
    """tasks: their names. chosen: places among the candidates, best first.

    Measure -> array. choosing: (1 + candidates, tasks, episodes); row 0 is the policy as it is. confirming: (1 +
    chosen, tasks, episodes). controls: (chosen, kinds, controls, tasks, episodes), NaN where a candidate has none of a
    kind; empty if there are none. kinds: of controls, their names.
    """

    tasks: list[str]
    choosing: Arrays
    chosen: list[int]
    confirming: Arrays
    controls: Arrays = field(default_factory=dict)
    kinds: Sequence[str] = ()


def study(
    world: World,
    candidates: Sequence[Candidate],
    settings: Settings,
    controls: Controls,
    shelf: Shelf,
    workers: int = 1,
) -> Found:
    """Everything that the settings ask for, run by run; finished runs are kept on the shelf.

    controls: what the chosen are compared with. workers: processes side by side; the numbers do not depend on them.
    """
    first = range(settings.choosing)
    runs = {"choose-plain": _plain(world, first)} | {
        f"choose-{place:04d}": _steered(world, one, first, settings.seed) for place, one in enumerate(candidates)
    }
    found = list(side_by_side(runs, shelf, workers, "choosing").values())
    choosing = stacked(found)
    taken = choose(settings.goal, mean_of_tasks(choosing), [one.target.name for one in candidates], settings.count)
    chosen = [candidates[place] for place in taken]
    others = range(settings.choosing, settings.choosing + settings.confirming)
    runs = {"confirm-plain": _plain(world, others)} | {
        f"confirm-{place:04d}": _steered(world, one, others, settings.seed) for place, one in enumerate(chosen)
    }
    confirming = stacked(list(side_by_side(runs, shelf, workers, "confirming").values()))
    kinds, beside = _controls(world, chosen, settings, controls, shelf, workers) if chosen else ((), {})
    return Found(tasks_of(found[0]), choosing, taken, confirming, beside, kinds)


def _controls(
    world: World, chosen: Sequence[Candidate], settings: Settings, controls: Controls, shelf: Shelf, workers: int
) -> tuple[tuple[str, ...], Arrays]:
    """Kinds, and measure -> (chosen, kinds, controls, tasks, episodes)."""
    kinds = max((controls.kinds(one) for one in chosen), key=len)
    if not kinds:
        return (), {}
    episodes = range(settings.choosing, settings.choosing + settings.control_episodes)
    names = {
        (place, kind): [f"control-{place:04d}-{kind}-{number:04d}" for number in range(controls.count)]
        for place, one in enumerate(chosen)
        for kind in controls.kinds(one)
    }
    runs = {
        name: _with(world, chosen[place], kind, number, controls, episodes)
        for (place, kind), own in names.items()
        for number, name in enumerate(own)
    }
    found = side_by_side(runs, shelf, workers, "controls")
    blocks = {key: stacked([found[name] for name in own]) for key, own in names.items()}
    none = {name: np.full(values.shape, np.nan) for name, values in next(iter(blocks.values())).items()}
    rows = [[blocks.get((place, kind), none) for kind in kinds] for place in range(len(chosen))]
    return kinds, {name: np.stack([np.stack([block[name] for block in row]) for row in rows]) for name in none}


def _with(world: World, one: Candidate, kind: str, number: int, controls: Controls, episodes: range) -> Work:
    return lambda: world.run(controls.edits(one, kind, number), episodes)


def _plain(world: World, episodes: range) -> Work:
    return lambda: world.run({}, episodes)


def _steered(world: World, candidate: Candidate, episodes: range, seed: int) -> Work:
    return lambda: world.run(candidate.edits(seed), episodes)
