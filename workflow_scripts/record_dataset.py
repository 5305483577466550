"""Record one part of a source: whole episodes of a LeRobot dataset."""

import argparse
import json
from pathlib import Path

from policylens.capture.settings import part_number, source_settings
from policylens.capture.sources import write_source
from policylens.console import main
from policylens.datasets.info import read_info
from policylens.datasets.location import INFO, fetched
from policylens.datasets.meta import read_meta
from policylens.datasets.recording import description, rollouts
from policylens.progress import progress
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: the source's block of config.yaml")
    parser.add_argument("--source", required=True, help="name of the source; its episodes' splits follow from it")
    parser.add_argument("--part", default="part-0000", help="part-NNNN: which part of the source")
    parser.add_argument("--out", required=True, type=Path, help="store to write, <part>.zarr")
    arguments = parser.parse_args()
    settings = source_settings(arguments.settings, seed=0)
    block = settings["dataset"]
    root = fetched(block)
    meta = read_meta(read_info(root, block.get("revision")))
    episodes = rollouts(meta, block, part_number(arguments.part), settings["parts"])
    origin = provenance(settings=settings, inputs={str(INFO): sha256_of_file(root / INFO)})
    what = f"reading {arguments.source} {arguments.part}"
    write_source(
        arguments.out,
        progress(episodes, None, what, "episodes"),
        settings["split"],
        arguments.source,
        {"provenance": origin, "dataset": description(meta, block)},
    )


if __name__ == "__main__":
    main(program)
