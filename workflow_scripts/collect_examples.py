"""Collect, for every latent of an SAE, the rows in which it is strongest and some of every strength."""

import argparse
from pathlib import Path

import numpy as np
import torch

from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.evaluation.examples import collect, write_examples
from policylens.progress import progress
from policylens.sae.activations import rows_of_split
from policylens.sae.files import CONFIG, load_sae
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.tables import INDEX, open_table


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae", required=True, type=Path, help="the SAE's folder")
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--split", default="all", choices=["train", "validation", "test", "all"])
    parser.add_argument("--count", type=int, default=20, help="strongest rows per latent")
    parser.add_argument("--seed", type=int, default=0, help="of the examples of every strength")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="store to write, examples.zarr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sae = load_sae(arguments.sae).to(arguments.device)
    capture = open_table(arguments.capture, arguments.row_space)
    width = capture.array(arguments.site).shape[-1]
    if width != sae.cfg.d_in:
        raise UserError(f"{arguments.sae}: trained on width {sae.cfg.d_in}, site {arguments.site!r} has {width}")
    everything = arguments.split == "all"
    rows = np.arange(capture.n_rows) if everything else rows_of_split(capture, arguments.split).numbers
    found = collect(
        sae,
        capture,
        arguments.site,
        rows,
        arguments.count,
        arguments.seed,
        lambda starts: progress(starts, len(starts), "collecting examples", "batches"),
    )
    settings = {"count": arguments.count, "split": arguments.split}
    inputs = {
        "sae": sha256_of_file(arguments.sae / CONFIG),
        "capture": sha256_of_file(arguments.capture / INDEX),
    }
    attributes = {"provenance": provenance(settings=settings, inputs=inputs, seed=arguments.seed)}
    write_examples(arguments.out, found, capture, arguments.site, attributes)


if __name__ == "__main__":
    main(program)
