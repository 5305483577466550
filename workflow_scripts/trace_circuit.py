"""Trace a circuit from an output back to the inputs: choose it, score it beside random ones, draw it."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from policylens.capture.batches import batches_of_rows
from policylens.circuits.ablation import in_order
from policylens.circuits.text import summary
from policylens.circuits.tracing import RowSet, settings_of, traced
from policylens.console import main
from policylens.devices import device
from policylens.interventions.subject import BATCH_ROWS
from policylens.policies import registry
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy
from policylens.sae.activations import whole_episodes
from policylens.sae.files import load_sae
from policylens.stores.files import write_json, write_text
from policylens.stores.schemas import check_against
from policylens.stores.tables import open_table
from policylens.visualize import circuit_plots

SAME_ROWS = (
    "the latents were chosen on the rows they are scored on: the interventions are on all rows, none are held out"
)


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.checkpoint, arguments.device)
    chosen, scored = (rows_in(arguments, policy, split) for split in (arguments.chosen_on, arguments.scored_on))
    saes = {site: load_sae(folder).to(arguments.device) for site, folder in arguments.saes.items()}
    saes = in_order(policy, saes, chosen.batches[0])
    inputs = registry.family(policy.record["family"]).inputs(policy.record)
    record = {
        **arguments.origin,
        "chosen_on": described(arguments.chosen_on, chosen),
        "scored_on": described(arguments.scored_on, scored),
        "limitations": [SAME_ROWS] if arguments.chosen_on == arguments.scored_on else [],
        **traced(policy, saes, chosen, scored, inputs, settings_of(arguments.settings, arguments.seed)),
    }
    check_against("circuit", record, arguments.out)
    circuit_plots.graph(arguments.out.with_name("circuit.png"), record)
    circuit_plots.faithfulness(arguments.out.with_name("faithfulness.png"), record)
    write_text(arguments.out.with_name("summary.txt"), summary(record))
    write_json(arguments.out, record)


def rows_in(arguments: argparse.Namespace, policy: Policy, split: str) -> RowSet:
    """Observations of a split's rows, episode by episode."""
    capture, source = open_table(arguments.capture, arguments.row_space), open_table(arguments.source)
    numbers, episodes = whole_episodes(capture, split, arguments.rows, arguments.seed)
    return RowSet(list(batches_of_rows(source, policy.observations, numbers, BATCH_ROWS)), episodes)


def described(split: str, rows: RowSet) -> dict:
    return {"split": split, "n_rows": len(rows.episodes), "n_episodes": len(np.unique(rows.episodes))}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--source", required=True, type=Path, help="folder of the source: observations")
    parser.add_argument("--capture", required=True, type=Path, help="folder of a capture of it: which rows there are")
    parser.add_argument("--sae", required=True, action="append", help="SITE=FOLDER, of every site of the circuit")
    parser.add_argument("--row-space", help="of the sites, as the capture names it; its only one if left out")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: output, sizes, mode...")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, circuit...")
    parser.add_argument("--chosen-on", default="validation", help="split on which latents are chosen")
    parser.add_argument("--scored-on", default="test", help="split on which circuits are scored")
    parser.add_argument("--rows", type=int, default=0, help="whole episodes of at most so many rows of each; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="circuit.json to write; all else stands beside it")
    arguments = parser.parse_args()
    arguments.saes = {site: Path(folder) for site, _, folder in (word.partition("=") for word in arguments.sae)}
    return arguments


if __name__ == "__main__":
    main(program)
