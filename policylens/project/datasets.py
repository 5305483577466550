"""Sources that are LeRobot datasets: what config.yaml can get wrong, and the files that their jobs depend on.

Free of heavy imports: what only parquet files tell (tasks, episodes) is checked when the source is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from policylens.datasets.info import read_info
from policylens.datasets.location import INFO, folder_of
from policylens.datasets.naming import array_names
from policylens.errors import UserError
from policylens.project.known import known

RECORD = "policylens.json"
META = ("*.json", "*.jsonl", "tasks.parquet", "episodes/**/*.parquet")


def is_built(folder: Path) -> bool:
    """Whether the workflow itself makes the dataset."""
    return folder.parts[:1] == ("results",)


def check_dataset(block: Mapping[str, Any], where: str) -> None:
    """UserError unless the dataset is there (or can come), is of a version that is read, and has what is asked for."""
    own = block["dataset"]
    try:
        if "root" in own and "revision" in own and "repo_id" not in own:
            raise UserError("a folder has no revision; name the repo_id, or leave the revision out")
        folder = folder_of(own)
        if folder is None or (is_built(folder) and not (folder / INFO).is_file()):
            return
        info = read_info(folder, own.get("revision"))
        array_names(info.features, own.get("arrays"))
    except UserError as error:
        raise UserError(f"{where}.dataset: {error}") from None
    episodes = min(len(own.get("episodes", range(info.total_episodes))), info.total_episodes)
    if block["parts"] > episodes:
        raise UserError(f"{where}: {block['parts']} parts cannot hold {episodes} whole episodes")


def check_made(sources: Mapping[str, Mapping[str, Any]], datasets: Iterable[str], where: str) -> None:
    """UserError for a source of a dataset below results/ that no block of `datasets` makes.

    sources: name -> block. datasets: names of the blocks.
    """
    for name, block in sources.items():
        root = block.get("dataset", {}).get("root")
        parts = Path(root).parts if root is not None and is_built(Path(root)) else ()
        if not parts:
            continue
        place = f"{where}.sources.{name}.dataset.root"
        if len(parts) != 3 or parts[1] != "datasets":
            raise UserError(f"{place}: {root} is no dataset that the workflow makes; those are results/datasets/NAME")
        known(parts[2], datasets, place, "block of datasets")


def meta_files(own: Mapping[str, Any]) -> list[str]:
    """The files that a dataset's content shows in: of its meta folder, statistics among them.

    Of one that the workflow makes these are its rule's outputs, of which RECORD tells what it was made from; of one on
    the hub there are none.
    """
    folder = folder_of(own)
    if folder is None:
        return []
    if is_built(folder):
        return [str(folder / INFO), str(folder / RECORD)]
    return sorted({str(path) for pattern in META for path in (folder / "meta").glob(pattern)})
