"""Measure one SAE on held-out episodes, and what its policy loses through it, and write metrics.json."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from policylens.capture.batches import read_batch
from policylens.console import main
from policylens.errors import UserError
from policylens.evaluation.fidelity import Piece, fidelity_rows, other_episodes, summarise
from policylens.evaluation.reconstruction import row_table
from policylens.evaluation.report import sae_report
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy
from policylens.progress import progress
from policylens.sae.activations import Rows, flattened, read_activations, rows_of_split
from policylens.sae.base import SAE
from policylens.sae.files import load_sae
from policylens.statistics.resampling import Resampling
from policylens.stores.files import write_json
from policylens.stores.tables import Table, open_table

BATCH_ROWS = 2048


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae", required=True, type=Path, help="the SAE's folder")
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--checkpoint", type=Path, help="the policy's folder; with --source: measure fidelity too")
    parser.add_argument("--source", type=Path, help="folder of the source behind the capture")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", default="step", help="of the site, as the capture names it")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--rows", type=int, default=0, help="whole episodes of at most so many rows; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", required=True, type=Path, help="metrics.json to write")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.source is None):
        parser.error("give --checkpoint and --source together, or neither")
    torch.set_num_threads(arguments.threads)
    sae = load_sae(arguments.sae).to(arguments.device)
    capture = open_table(arguments.capture, arguments.row_space)
    rows = rows_of_split(capture, arguments.split, arguments.rows, arguments.seed)
    activations = read_activations(capture.array(arguments.site), rows.numbers)
    if activations.shape[-1] != sae.cfg.d_in:
        raise UserError(
            f"{arguments.sae}: trained on width {sae.cfg.d_in}, site {arguments.site!r} has {activations.shape[-1]}"
        )
    resampling = Resampling(seed=arguments.seed)
    flat = flattened(activations)
    fidelity = None
    if arguments.checkpoint is not None:
        policy = load_policy(arguments.checkpoint, arguments.device)
        source = open_table(arguments.source)
        fidelity = measure_fidelity(policy, source, sae, arguments.site, activations, rows, resampling)
    table, episodes = row_table(sae, flat), np.repeat(rows.episodes, len(flat) // len(activations))
    write_json(arguments.out, sae_report(sae, table, episodes, resampling, arguments.split, fidelity))


def measure_fidelity(
    policy: Policy,
    source: Table,
    sae: SAE,
    site: str,
    activations: np.ndarray,
    rows: Rows,
    resampling: Resampling,
) -> dict:
    weights = policy.record["weights"]["sha256"]
    if sae.cfg.checkpoint_sha256 not in (None, weights):
        raise UserError("the SAE was trained on another checkpoint's activations; evaluate it with that checkpoint")
    donors = other_episodes(rows.episodes, resampling.seed)

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(rows.numbers), BATCH_ROWS):
            piece = slice(start, start + BATCH_ROWS)
            batch = read_batch(source, policy.observations, rows.numbers[piece])
            yield Piece(batch, activations[piece], activations[donors[piece]])

    count = -(-len(rows.numbers) // BATCH_ROWS)
    measured = fidelity_rows(policy, site, sae, progress(pieces(), count, "fidelity", "batches"))
    return summarise(measured, rows.episodes, resampling)


if __name__ == "__main__":
    main(program)
