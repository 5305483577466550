"""Training the members of a sweep in one job: those that share a stream of batches on one pass over the data.

Each member's result is the one that it would have alone, so that members can be added, and trained ones left as they
are. A member is known by its stamp, a digest of all that its result follows from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policylens.sae.architectures import build
from policylens.sae.base import SAE
from policylens.sae.selection import Selection
from policylens.sae.training import POOL_BYTES, SHARED, Feed, Keeper, Progress, Training, advance, new_member, seed_of

Settings = Mapping[str, Any]
BYTES_PER_PARAMETER = 16

POOLS = 2
"""Pools of rows in memory: the one in use and the next."""

OVERHEAD_BYTES = 2**30
"""The interpreter, torch, and what of the scratch memory does not grow with a batch."""

BYTES_PER_LATENT = 16
"""For each latent of each row of a batch: up to four float32 copies, one after the other for all members."""


@dataclass(frozen=True)
class Plan:
    """How a sweep is trained.

    seed: of the order of rows, and of members without a seed of their own. memory_bytes: what the members in
    training may take together, in parameters, gradients and moments (one is always trained). pool_bytes: rows that
    are in memory, and shuffled, together.
    """

    seed: int
    device: str = "cpu"
    memory_bytes: int = 4 * 2**30
    pool_bytes: int = POOL_BYTES


def stamp(recipe: Mapping[str, Any], **circumstances: Any) -> str:
    """16 hex digits that stand for a training: its recipe and all else that its result follows from."""
    text = json.dumps({"recipe": dict(recipe), **circumstances}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def groups(members: Mapping[str, Settings]) -> list[list[str]]:
    """Names of the members that can share a stream of batches, in order of their first appearance."""
    found: dict[str, list[str]] = {}
    for name, settings in members.items():
        key = json.dumps([settings.get(entry) for entry in SHARED])
        found.setdefault(key, []).append(name)
    return list(found.values())


def waves(names: Sequence[str], bytes_of: Callable[[str], int], limit: int) -> Iterator[list[str]]:
    """Names in order, as many together as stay within the limit, at least one."""
    wave: list[str] = []
    taken = 0
    for name in names:
        if wave and taken + bytes_of(name) > limit:
            yield wave
            wave, taken = [], 0
        wave.append(name)
        taken += bytes_of(name)
    if wave:
        yield wave


def left_for_members(job_bytes: int, pool_bytes: int, members: Iterable[Settings]) -> int:
    """What a job of this memory has for the members in training, beside the rows, the latents and its overhead."""
    latents = max((settings["batch_rows"] * settings["latents"] for settings in members), default=0)
    return max(0, job_bytes - POOLS * pool_bytes - OVERHEAD_BYTES - BYTES_PER_LATENT * latents)


def training_bytes(settings: Settings, d_in: int, d_out: int) -> int:
    """Memory of a member in training: float32 parameters, gradients and two moments."""
    shapes = build(settings).shapes(d_in, d_out).values()
    return BYTES_PER_PARAMETER * sum(math.prod(shape) for shape in shapes)


def train_sweep(
    members: Mapping[str, Settings],
    select: Callable[[str | None], Selection],
    starts: Mapping[str, SAE],
    plan: Plan,
    keeper: SweepKeeper,
    progress: Callable[[str], Progress],
) -> None:
    """Train all members, and hand each to the keeper as it is done.

    members: name -> resolved settings. select: from an output site (None: the site itself) to the training rows.
    starts: name -> the SAE to go on from. progress: from a description to what shows the steps.
    """
    for names in groups(members):
        first = members[names[0]]
        feed = Feed(select(first["output_site"]), first, plan.seed, plan.device, plan.pool_bytes)
        keeper.feeding(feed)
        selection = feed.selection

        def bytes_of(name: str, selection: Selection = selection) -> int:
            return training_bytes(members[name], selection.d_in, selection.d_out)

        for wave in waves(names, bytes_of, plan.memory_bytes):
            trainings = []
            for name in wave:
                seed = seed_of(members[name], plan.seed)
                member = new_member(members[name], feed, seed, plan.device, starts.get(name))
                trainings.append(Training(name, member))
                keeper.resume(trainings[-1])
            advance(trainings, feed.stream, feed.sample, keeper, progress(_title(wave)))


def _title(wave: Sequence[str]) -> str:
    return f"training {wave[0]}" + (f" and {len(wave) - 1} more" if len(wave) > 1 else "")


class SweepKeeper(Keeper):
    """A keeper that knows where members come from."""

    def feeding(self, feed: Feed) -> None:
        """The members that follow are trained on this feed."""

    def resume(self, training: Training) -> None:
        """Bring a new training to where it was left, if it was begun before."""
