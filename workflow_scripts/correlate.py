"""Correlate every interpretable input with every latent (and unit) at a site, and write what was found as a store."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policylens.console import main
from policylens.correlations.held_out import HeldOut
from policylens.correlations.inputs import inputs_of
from policylens.correlations.site import Site
from policylens.correlations.store import held_out_arrays, write_correlations
from policylens.correlations.study import study
from policylens.devices import device
from policylens.errors import UserError
from policylens.evaluation.concepts import check_same_rows
from policylens.policies.checkpoint import read_record
from policylens.sae.files import CONFIG, WEIGHTS, load_sae
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.tables import INDEX, open_table


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    record = read_record(arguments.checkpoint)
    site = site_of(arguments, record)
    sample, rows = site.sample(arguments.split)
    try:
        found = study(sample, arguments.shifts, arguments.seed)
    except UserError as error:
        raise UserError(f"{arguments.capture}, split {arguments.split}: {error}") from None
    scored = site.held_out(arguments.split, sample, found.kept)
    n, m = rows.latents.shape
    latents = {"latent": np.arange(m), "density": rows.densities, "active_rows": rows.active_rows}
    groups = {"inputs": {"input": np.arange(len(found.kept)), **found.by_input}, "latents": latents}
    if isinstance(scored, HeldOut):
        groups["held_out"] = held_out_arrays(scored)
    attributes = {
        "provenance": provenance_of(arguments, record["weights"]["sha256"]),
        "site": arguments.site,
        "n_rows": n,
        "n_episodes": len(np.unique(sample.episodes)),
        "n_latents": m,
        "n_units": rows.units.shape[1],
        "positions": rows.positions,
        "l0": rows.l0,
        "inputs": [site.inputs[place].record() for place in found.kept],
        "left_out": [{"name": site.inputs[place].input.name, "why": reason} for place, reason in found.left_out],
        "null": found.shifted,
        "held_out": scored.record() if isinstance(scored, HeldOut) else None,
        "no_held_out": scored if isinstance(scored, str) else None,
    }
    write_correlations(arguments.out, groups, attributes)


def site_of(arguments: argparse.Namespace, record: Mapping[str, Any]) -> Site:
    capture, source = open_table(arguments.capture, arguments.row_space), open_table(arguments.source)
    labels = open_table(arguments.labels) if arguments.labels else None
    for table in (source, labels):
        if table is not None:
            check_same_rows(table, capture)
    inputs = inputs_of(record, source, labels)
    sae = load_sae(arguments.sae).to(arguments.device)
    return Site(capture, arguments.site, sae, inputs, arguments.rows, arguments.seed)


def provenance_of(arguments: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    folders = {"capture": arguments.capture, "source": arguments.source, "labels": arguments.labels}
    inputs = {name: sha256_of_file(folder / INDEX) for name, folder in folders.items() if folder}
    inputs |= {f"sae/{name}": sha256_of_file(arguments.sae / name) for name in (CONFIG, WEIGHTS)}
    settings = {name: getattr(arguments, name) for name in ("split", "rows", "shifts")}
    return provenance(settings=settings, seed=arguments.seed, checkpoint_sha256=checkpoint, inputs=inputs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder: its policy.json")
    parser.add_argument("--source", required=True, type=Path, help="folder of the source: observations")
    parser.add_argument("--labels", type=Path, help="folder of a label set of the source, whose numbers are inputs too")
    parser.add_argument("--capture", required=True, type=Path, help="folder of a capture of the source")
    parser.add_argument("--sae", required=True, type=Path, help="folder of an SAE of the site")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test", "all"])
    parser.add_argument("--rows", type=int, default=0, help="whole episodes of at most so many rows; 0: all")
    parser.add_argument("--shifts", type=int, default=200, help="draws of the null; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="store to write, correlations.zarr")
    return parser.parse_args()


if __name__ == "__main__":
    main(program)
