"""Train the members of an SAE sweep at one site that are not trained yet, all on one pass over the training rows."""

import argparse
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.progress import progress
from policylens.sae.files import CONFIG, load_sae
from policylens.sae.origin import trained_on
from policylens.sae.selection import Selection
from policylens.sae.settings import resolve
from policylens.sae.sweep import Plan, left_for_members, stamp, train_sweep
from policylens.sae.tracking import Tracker
from policylens.sae.training import Progress, seed_of
from policylens.sae.training_rows import Recorded, training_rows
from policylens.sae.workspace import Workspace
from policylens.stores.files import read_json, sha256_of_file
from policylens.stores.lock import writing
from policylens.stores.tables import INDEX

DEFAULT_POOL_MB = 2048


def program() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    recipes = {path.stem: read_recipe(path) for path in arguments.recipes}
    common = shared(recipes, arguments.recipes)
    members = {name: resolve(recipe["settings"], f"member {name!r}") for name, recipe in recipes.items()}
    rows = common["rows"]
    pool_bytes = rows.get("pool_mb", DEFAULT_POOL_MB) * 2**20
    memory_bytes = left_for_members(arguments.memory_mb * 2**20, pool_bytes, members.values())
    plan = Plan(common["seed"], device(common["device"]), memory_bytes, pool_bytes)
    stamps = {name: stamp_of(recipe, arguments) for name, recipe in recipes.items()}
    seeds = {name: seed_of(own, plan.seed) for name, own in members.items()}
    names = trained_on(arguments.capture, arguments.row_space, arguments.site)
    with writing(arguments.out):
        keeper = Workspace(arguments.out, stamps, seeds, names, arguments.save_every, tracked(arguments, stamps))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(keeper, "interrupted", True))
        waiting = {name: members[name] for name in keeper.waiting()}
        starts = {name: load_sae(Path(own["start"])) for name, own in waiting.items() if own["start"]}
        train_sweep(
            waiting, lambda output: select(arguments, rows, plan, output), starts, plan, keeper, shown(arguments)
        )
        keeper.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", required=True, action="append", type=Path, help="a capture's folder; repeatable")
    parser.add_argument("--labels", action="append", default=[], help="name=folder of a label set to choose rows by")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument(
        "--recipes",
        required=True,
        nargs="+",
        type=Path,
        help="a JSON file per member, named after it: settings (policylens/sae/settings.py), and, the same for all, "
        "rows (limit, where, weights, pool_mb: policylens/sae/training_rows.py), seed, device, threads, code",
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--memory-mb", type=int, default=8000, help="of the job; bounds how many train together")
    parser.add_argument("--save-every", type=float, default=300, help="seconds between two savings of the states")
    parser.add_argument("--wandb", default="null", help="JSON: project and mode (offline, online); null: not followed")
    parser.add_argument("--out", required=True, type=Path, help="folder of the training")
    return parser.parse_args()


def read_recipe(path: Path) -> dict[str, Any]:
    recipe = read_json(path)
    if not isinstance(recipe, dict) or not isinstance(recipe.get("settings"), dict):
        raise UserError(f"{path}: not a recipe; it needs the key settings")
    return {"rows": {}, "seed": 0, "device": "cpu"} | recipe


def shared(recipes: Mapping[str, Mapping[str, Any]], paths: Sequence[Path]) -> Mapping[str, Any]:
    """What all members have in common."""
    first = next(iter(recipes.values()))
    for path, recipe in zip(paths, recipes.values(), strict=True):
        for key in ("rows", "seed", "device"):
            if recipe[key] != first[key]:
                raise UserError(f"{path}: its {key} differs from {paths[0]}'s; members of a sweep share it")
    return first


def select(arguments: argparse.Namespace, rows: Mapping[str, Any], plan: Plan, output_site: str | None) -> Selection:
    labels = labels_of(arguments.labels)
    return training_rows(
        [Recorded(capture, labels) for capture in arguments.capture],
        arguments.site,
        output_site,
        arguments.row_space,
        where=rows.get("where", ()),
        weights=rows.get("weights"),
        limit=rows.get("limit", 0),
        seed=plan.seed,
    )


def shown(arguments: argparse.Namespace) -> Callable[[str], Progress]:
    return lambda what: lambda steps: progress(steps, len(steps), f"{what} at {arguments.site}", "steps")


def labels_of(words: list[str]) -> dict[str, Path]:
    pairs = [word.partition("=") for word in words]
    for name, sign, folder in pairs:
        if not (name and sign and folder):
            raise UserError(f"--labels {name}: give name=folder")
    return {name: Path(folder) for name, _, folder in pairs}


def stamp_of(recipe: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    """Names the training by everything that its result follows from."""
    start = recipe["settings"].get("start")
    return stamp(
        recipe,
        captures=[sha256_of_file(folder / INDEX) for folder in arguments.capture],
        labels={name: sha256_of_file(path / INDEX) for name, path in labels_of(arguments.labels).items()},
        start=sha256_of_file(Path(start) / CONFIG) if start else None,
        site=[arguments.site, arguments.row_space],
        threads=arguments.threads,
    )


def tracked(arguments: argparse.Namespace, stamps: Mapping[str, str]) -> Tracker | None:
    asked = json.loads(arguments.wandb)
    if asked is None:
        return None
    return Tracker(arguments.out / "wandb", asked["project"], str(arguments.out), asked.get("mode", "offline"), stamps)


if __name__ == "__main__":
    main(program)
