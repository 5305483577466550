"""Record one part of a source: rollouts of a policy, or a file of observations that a user already has."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policylens.capture.imports import import_rollout
from policylens.capture.settings import first_episode, part_number, source_settings
from policylens.capture.sources import episodes_of_part, write_source
from policylens.console import main
from policylens.policies.registry import load_policy, require, room
from policylens.policies.rollout import Rollout
from policylens.progress import progress
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, type=Path, help="the checkpoint's policy.json, or the file to import")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: the source's block of config.yaml")
    parser.add_argument("--source", required=True, help="name of the source; its episodes' splits follow from it")
    parser.add_argument("--part", default="part-0000", help="part-NNNN: which part of the source")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="store to write, <part>.zarr")
    arguments = parser.parse_args()
    settings = source_settings(arguments.settings, seed=0)
    rollouts, origin = (imported if "import" in settings else played)(arguments, settings)
    write_source(arguments.out, rollouts, settings["split"], arguments.source, {"provenance": origin})


def imported(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> tuple[list[Rollout], dict[str, Any]]:
    inputs = {arguments.input.name: sha256_of_file(arguments.input)} if arguments.input.is_file() else None
    rollout = import_rollout(arguments.input, settings.get("layout"), first_episode(arguments.part))
    return [rollout], provenance(settings=settings, inputs=inputs)


def played(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> tuple[Iterator[Rollout], dict[str, Any]]:
    import torch

    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.input.parent)
    family, seed = policy.record["family"], settings["seed"]
    require(family, "rollout", f"the source {arguments.source!r}")
    episodes = episodes_of_part(part_number(arguments.part), settings["parts"], settings["episodes"])
    rollouts = room(family, "environment").rollout(policy, settings["rollout"], episodes, seed, arguments.threads)
    origin = provenance(settings=settings, seed=seed, checkpoint_sha256=policy.record["weights"]["sha256"])
    return progress(rollouts, None, f"recording {arguments.source} {arguments.part}", "chunks"), origin


if __name__ == "__main__":
    main(program)
