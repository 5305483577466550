"""Run a policy in its environment while latents or directions are changed, and keep every run's results."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.evaluation.concepts import check_same_rows
from policylens.ffn.files import units_of
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy, require, room
from policylens.project.steering import steered_sites
from policylens.sae.activations import read_activations, rows_of_split
from policylens.sae.base import SAE
from policylens.sae.files import load_sae
from policylens.sae.origin import check_checkpoint, check_fits, digests
from policylens.statistics.directions import CONTROLS, random_directions
from policylens.steering.building import Clusters, Reference, candidates, check_steerable
from policylens.steering.candidate import Candidate
from policylens.steering.controls import Controls
from policylens.steering.reach import reach, together
from policylens.steering.store import write_runs
from policylens.steering.study import Settings, settings_of, study
from policylens.steering.world import World
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.shelf import Shelf
from policylens.stores.tables import INDEX, Table, open_table

REACH_ROWS = 4096


def program() -> None:
    arguments = parse()
    # More threads in one process and forked processes do not go together; runs are shared out among processes instead.
    torch.set_num_threads(1)
    block, settings = arguments.block, settings_of(arguments.block)
    policy = load_policy(arguments.checkpoint, arguments.device)
    family = policy.record["family"]
    require(family, "returns", "steering")
    capture = open_table(arguments.capture, arguments.row_space)
    clusters = {name: units_of(path, block["clusters"][name]["cluster"]) for name, path in arguments.clusters.items()}
    check_steerable(policy.sites, steered_sites(block))
    saes = {site: load_fitting(folder, site, policy, capture) for site, folder in arguments.saes.items()}
    reference = reference_of(arguments, capture, clusters)
    made = candidates(block, saes, reference, arguments.device, clusters)
    origin = provenance_of(arguments, policy)
    shelf = Shelf(arguments.out.with_name("unfinished"), json.dumps([origin, arguments.code, arguments.device]))
    world = World(policy, room(family, "returns").returns, block["settings"], block["seed"])
    controls = controls_of(settings, reference, arguments.device)
    workers = arguments.threads if arguments.device == "cpu" else 1  # an accelerator's state cannot be forked
    found = study(world, made, settings, controls, shelf, workers)
    described = [describe(one, reference, settings.seed) for one in made]
    write_runs(arguments.out, found, {"provenance": origin, "candidates": described})
    shelf.clear()


def load_fitting(folder: Path, site: str, policy: Policy, capture: Table) -> SAE:
    sae = load_sae(folder).to(policy.device)
    check_fits(folder, sae, site, capture)
    if sae.cfg.output_site is not None:
        raise UserError(f"{folder}: is a transcoder into {sae.cfg.output_site!r}: it has no latents to change")
    check_checkpoint(folder, sae, policy.record)
    return sae


def reference_of(arguments: argparse.Namespace, capture: Table, clusters: Clusters) -> Reference:
    sites = steered_sites(
        {**arguments.block, "clusters": {name: {"sites": list(units)} for name, units in clusters.items()}}
    )
    rows = rows_of_split(capture, "train", arguments.block["rows"], arguments.block["seed"]).numbers
    own = arguments.block.get("directions", {}).values()
    tables = {name: open_table(folder, arguments.row_space) for name, folder in arguments.labels.items()}
    for table in tables.values():
        check_same_rows(table, capture)
    return Reference(
        {site: read_activations(capture.array(site), rows) for site in sites},
        {(one["labels"], one["label"]): tables[one["labels"]].array(one["label"]).read(rows)
         for one in own if "labels" in one},
    )  # fmt: skip


def controls_of(settings: Settings, reference: Reference, device: str) -> Controls:
    directions = {
        site: directions_of(activations, settings.directions, settings.seed)
        for site, activations in reference.activations.items()
    }
    return Controls(settings.directions, directions, reference.activations, settings.seed, device)


def directions_of(activations: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """Kind -> unit vectors (count, d); none where none are asked for."""
    kinds = CONTROLS if count else ()
    return {kind: random_directions(kind, activations, count, seed).astype(np.float32) for kind in kinds}


def describe(candidate: Candidate, reference: Reference, seed: int) -> dict:
    target, parts = candidate.target, candidate.targets
    reached = [reach(one, candidate.move, reference.activations[one.site][:REACH_ROWS], seed) for one in parts]
    units = {one.site: list(one.units) for one in parts if one.units}
    return {
        "name": candidate.name,
        "target": target.name,
        "site": target.site if len(parts) == 1 else f"{len(parts)} sites",
        "latents": list(target.latents),
        **({"units": units} if units else {}),
        "move": candidate.move.name,
        "unit": [unit for one in parts for unit in one.scale.unit.tolist()],
        **together(reached),
    }


def provenance_of(arguments: argparse.Namespace, policy: Policy) -> dict:
    inputs = digests(arguments.saes)
    inputs |= {f"labels/{name}": sha256_of_file(folder / INDEX) for name, folder in arguments.labels.items()}
    inputs |= {f"clusters/{name}": sha256_of_file(path) for name, path in arguments.clusters.items()}
    inputs["capture"] = sha256_of_file(arguments.capture / INDEX)
    for name, own in arguments.block.get("directions", {}).items():
        if "file" in own:
            inputs[f"direction/{name}"] = sha256_of_file(Path(own["file"]))
    sha256 = policy.record["weights"]["sha256"]
    return provenance(settings=arguments.block, seed=arguments.block["seed"], checkpoint_sha256=sha256, inputs=inputs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--capture", required=True, type=Path, help="folder of the capture that sets the scale")
    parser.add_argument("--sae", default=[], action="append", help="SITE=FOLDER of an SAE whose latents are steered")
    parser.add_argument("--labels", default=[], action="append", help="NAME=FOLDER of a label set for directions")
    parser.add_argument("--clusters", default=[], action="append", help="NAME=FILE, clusters.json of a cluster's units")
    parser.add_argument("--row-space", help="of the sites, as the capture names it; its only one if left out")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: the block of config.yaml, complete")
    parser.add_argument("--code", default="", help="digest of the code: other code's unfinished work is dropped")
    parser.add_argument("--threads", type=int, default=1, help="processes side by side; they change no number")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="store to write, runs.zarr")
    arguments = parser.parse_args()
    arguments.saes, arguments.labels, arguments.clusters = (
        {name: Path(folder) for name, _, folder in (word.partition("=") for word in words)}
        for words in (arguments.sae, arguments.labels, arguments.clusters)
    )
    return arguments


if __name__ == "__main__":
    main(program)
