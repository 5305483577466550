"""Run a policy over observations and write how strongly every unit of its feed-forward layers answers."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from policylens.capture.batches import read_batch
from policylens.capture.taking import check_takes
from policylens.console import main
from policylens.devices import device
from policylens.ffn.observations import file_batches, source_batches
from policylens.ffn.patterns import limited, matching
from policylens.ffn.probe import Coordinates, check_units, probe
from policylens.ffn.store import write_strengths
from policylens.policies.protocol import Batch, Policy
from policylens.policies.registry import load_policy
from policylens.sae.activations import rows_of_split
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.tables import INDEX, open_table


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    policy, block = load_policy(arguments.checkpoint, arguments.device), arguments.block
    sites = check_units(policy, block["sites"])
    batches, total, inputs = (of_source if "source" in block else of_files)(arguments, policy)
    found = probe(policy, sites, batches, block["minimum"], total)
    sha256 = policy.record["weights"]["sha256"]
    origin = provenance(settings=block, seed=arguments.seed, checkpoint_sha256=sha256, inputs=inputs)
    write_strengths(arguments.out, sites, found, {"provenance": origin, "minimum": block["minimum"]})


Batches = tuple[Iterator[tuple[Batch, Coordinates]], int, dict[str, str]]


def of_source(arguments: argparse.Namespace, policy: Policy) -> Batches:
    block, size = arguments.block, arguments.block.get("batch_rows", arguments.batch_rows)
    source = open_table(arguments.source)
    rows = rows_of_split(source, block["split"], block["rows"], arguments.seed).numbers
    rows = limited(rows, size, block["max_batches"])
    check_takes(policy, lambda: read_batch(source, policy.observations, rows[:1]), str(source.folder))
    inputs = {"source": sha256_of_file(arguments.source / INDEX)}
    return source_batches(source, policy.observations, rows, size), -(-len(rows) // size), inputs


def of_files(arguments: argparse.Namespace, policy: Policy) -> Batches:
    block, size = arguments.block, arguments.block.get("batch_rows", arguments.batch_rows)
    files = limited(matching(block["observations"]), size, block["max_batches"])
    (first, _), *_ = file_batches(files[:1], policy.observations, 1, block.get("names"))
    check_takes(policy, lambda: first, str(files[0]))
    inputs = {path.name: sha256_of_file(path) for path in files}
    return file_batches(files, policy.observations, size, block.get("names")), -(-len(files) // size), inputs


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--source", type=Path, help="folder of the source; none where the block names files")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: what of the config's block is of this")
    parser.add_argument("--seed", type=int, default=0, help="of the rows that are drawn")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument(
        "--batch-rows", type=int, default=4096, help="rows per forward pass, where the block does not say"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--out", required=True, type=Path, help="store to write, activations.zarr")
    return parser.parse_args()


if __name__ == "__main__":
    main(program)
