"""Measure one SAE on held-out episodes, what its policy loses through it, and which concepts it holds."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from policylens.console import main
from policylens.devices import device
from policylens.evaluation.capture_fidelity import Spliced, capture_fidelity
from policylens.evaluation.concepts import Options, Site, check_same_rows, concept_report
from policylens.evaluation.reconstruction import row_table
from policylens.evaluation.report import sae_report
from policylens.policies import registry
from policylens.policies.registry import load_policy
from policylens.sae.activations import flattened, read_activations, rows_of_split
from policylens.sae.base import SAE
from policylens.sae.files import load_sae
from policylens.sae.origin import check_checkpoint, check_fits, named_capture
from policylens.statistics.resampling import Resampling
from policylens.stores.files import read_json, write_json
from policylens.stores.tables import Table, open_table


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    sae = load_sae(arguments.sae).to(arguments.device)
    capture = open_table(arguments.capture, arguments.row_space)
    rows = rows_of_split(capture, arguments.split, arguments.rows, arguments.seed)
    check_fits(arguments.sae, sae, arguments.site, capture)
    taken = given = read_activations(capture.array(arguments.site), rows.numbers)
    if sae.cfg.output_site is not None:
        given = read_activations(capture.array(sae.cfg.output_site), rows.numbers)
    resampling = Resampling(seed=arguments.seed)
    source = open_table(arguments.source) if arguments.source is not None else None
    fidelity = None
    if arguments.fidelity and source is not None:
        policy = load_policy(arguments.checkpoint, arguments.device)
        check_checkpoint(arguments.sae, sae, policy.record)
        fidelity = capture_fidelity(policy, source, Spliced(sae, arguments.site, capture, rows, given), resampling)
    concepts = (None, None)
    if arguments.labels is not None:
        concepts = measure_concepts(arguments, sae, Site(capture, arguments.site), source, resampling)
    flat = flattened(taken)
    table, episodes = row_table(sae, flat, flattened(given)), np.repeat(rows.episodes, len(flat) // len(taken))
    of = named_capture(arguments.capture)
    write_json(arguments.out, sae_report(sae, table, episodes, resampling, arguments.split, fidelity, concepts, of))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae", required=True, type=Path, help="the SAE's folder")
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--checkpoint", type=Path, help="the policy's folder; with --source: measure fidelity too")
    parser.add_argument("--source", type=Path, help="folder of the source behind the capture")
    parser.add_argument("--no-fidelity", dest="fidelity", action="store_false", help="do not run the policy")
    parser.add_argument("--labels", type=Path, help="folder of a label set of the capture's rows: measure concepts too")
    parser.add_argument("--concepts", default="{}", help="JSON: names, rows, phase, probing, as in config.yaml")
    parser.add_argument("--untrained-sae", type=Path, help="folder of the same SAE of another checkpoint")
    parser.add_argument("--untrained-capture", type=Path, help="folder of that checkpoint's capture of the same rows")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test", "all"])
    parser.add_argument("--rows", type=int, default=0, help="whole episodes of at most so many rows; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="metrics.json to write")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.source is None):
        parser.error("give --checkpoint and --source together, or neither")
    if (arguments.untrained_sae is None) != (arguments.untrained_capture is None):
        parser.error("give --untrained-sae and --untrained-capture together, or neither")
    return arguments


def measure_concepts(
    arguments: argparse.Namespace, sae: SAE, site: Site, source: Table | None, resampling: Resampling
) -> tuple[dict, dict | None]:
    untrained = None
    if arguments.untrained_sae is not None:
        other = open_table(arguments.untrained_capture, arguments.row_space)
        check_same_rows(other, site.capture)
        untrained = load_sae(arguments.untrained_sae).to(arguments.device), Site(other, site.name)
    observed = None if source is None else (source, observations_of(arguments.checkpoint))
    return concept_report(
        sae,
        site,
        open_table(arguments.labels, arguments.row_space),
        Options(**json.loads(arguments.concepts)),
        resampling,
        observed=observed,
        untrained=untrained,
    )


def observations_of(checkpoint: Path) -> Sequence[str]:
    record = read_json(checkpoint / "policy.json")
    return registry.family(record["family"]).observations(record)


if __name__ == "__main__":
    main(program)
