"""Blocks of demonstrations and datasets in config.yaml: their defaults and checks. Free of heavy imports.

Both stand outside of policies: several may be trained on, or contrasted with, the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.policies.vla.libero.recording import Settings
from policylens.policies.vla.libero.subset import Subset
from policylens.policies.vla.libero.tasks import TASKS, task
from policylens.stores.faults import did_you_mean

ENVIRONMENT = "vla"
"""Where demonstrations are recorded and datasets written."""


def demonstrations_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block of demonstrations with its defaults filled in, tasks as slugs; UserError for an unknown task.

    seed: of the whole config.
    """
    own = {"seed": seed, **{key: value for key, value in block.items() if key != "tasks"}}
    return {**vars(Settings(**own)), "tasks": list(dict.fromkeys(task(name).slug for name in block["tasks"]))}


def dataset_settings(
    block: Mapping[str, Any], demonstrations: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Any]:
    """A dataset's block with its defaults filled in; UserError for demonstrations or files that there are not."""
    found = {"demonstrations": [], "files": [], **vars(Subset()), **block}
    for name in found["demonstrations"]:
        if name not in demonstrations:
            hint = did_you_mean(name, demonstrations) or f"there are: {', '.join(demonstrations) or 'none'}"
            raise UserError(f"{where}: there are no demonstrations {name!r}; {hint}")
    for path in found["files"]:
        if not Path(path).is_file():
            raise UserError(f"{where}: there is no file {path}")
    if not found["files"] and not any(own_tasks(found, demonstrations).values()):
        raise UserError(f"{where}: no task of its demonstrations is one that it asks for; see `tasks` and `containing`")
    return found


def own_tasks(block: Mapping[str, Any], demonstrations: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Per block of demonstrations that a dataset takes from: the slugs of the tasks that it takes."""
    subset = subset_of(block)
    return {
        name: [slug for slug in demonstrations[name]["tasks"] if subset.takes(TASKS[slug].instruction)]
        for name in block["demonstrations"]
    }


def subset_of(block: Mapping[str, Any]) -> Subset:
    """What a dataset takes of its files."""
    return Subset(**{key: block[key] for key in vars(Subset())})
