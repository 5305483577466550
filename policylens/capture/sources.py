"""Writing sources: rollouts of a policy, or observations that a user already has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.capture.settings import shares
from policylens.capture.splits import given_splits
from policylens.errors import UserError
from policylens.policies.rollout import Rollout
from policylens.stores.splits import split_of_episodes
from policylens.stores.store import StoreWriter

STEP_COORDINATES = ("episode", "step", "split", "group")


def episodes_of_part(part: int, parts: int, episodes: int) -> range:
    """The consecutive episode numbers of a part: sizes differ by at most one, earlier parts first."""
    return range(part * episodes // parts, (part + 1) * episodes // parts)


def write_source(
    out: Path,
    rollouts: Iterable[Rollout],
    fractions: Mapping[str, float],
    salt: str,
    attributes: Mapping[str, Any],
) -> None:
    """Write rollouts as one part of a source.

    out: `<part>.zarr`. fractions: train, validation, test shares of the episodes.
    salt: name of the partition (the source's), so that sources of the same episodes are split independently.
    The split of an episode follows from its number alone, whatever the other episodes are; where rows bring a
    `split` of their own (codes as in `policylens.stores.splits`), that one stands.
    """
    with StoreWriter(out, "source", attributes) as store:
        rows = 0
        for rollout in rollouts:
            steps = dict(rollout.steps)
            _check_rollout(out, rollout, rows)
            if "split" in steps:
                steps["split"] = given_splits(str(out), steps["split"])
            else:
                steps["split"] = split_of_episodes(steps["episode"], shares(fractions), salt)
            coordinates = tuple(name for name in STEP_COORDINATES if name in steps)
            store.group("step", coordinates).append(steps)
            store.group("episode", ("episode",)).append(rollout.episodes)
            rows += len(steps["episode"])
        if rows == 0:
            raise UserError(f"{out}: the source is empty: no episode has a step; ask for more episodes")


def _check_rollout(out: Path, rollout: Rollout, first_row: int) -> None:
    missing = {"episode", "step"} - rollout.steps.keys()
    if missing:
        raise UserError(f"{out}: the source lacks the array {', '.join(sorted(missing))}: every row needs both")
    for name, values in rollout.steps.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            episode, step = (int(rollout.steps[key][row]) for key in ("episode", "step"))
            raise UserError(
                f"{rollout.origin or out}: array {name!r} is NaN or infinite at row {first_row + row}, step {step} of "
                f"episode {episode}; mend it, or leave the episode out"
            )
