"""Train one SAE on the training rows of a capture's site and write its weights, settings and history."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from policylens.console import main
from policylens.progress import progress
from policylens.sae.activations import flattened, read_activations, rows_of_split
from policylens.sae.files import save_sae
from policylens.sae.training import train
from policylens.stores.files import sha256_of_file
from policylens.stores.tables import INDEX, Table, open_table


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", default="step", help="of the site, as the capture names it")
    parser.add_argument("--settings", required=True, help="JSON: see policylens/sae/settings.py")
    parser.add_argument("--rows", type=int, default=0, help="train on so many rows, drawn by seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    capture = open_table(arguments.capture, arguments.row_space)
    rows = rows_of_split(capture, "train", arguments.rows, arguments.seed)
    sae, history = train(
        flattened(read_activations(capture.array(arguments.site), rows.numbers)),
        json.loads(arguments.settings),
        arguments.seed,
        device=arguments.device,
        progress=lambda steps: progress(steps, len(steps), f"training {arguments.out.name}", "steps"),
        origin=origin(arguments.capture, capture, arguments.site),
    )
    save_sae(arguments.out, sae, history)


def origin(folder: Path, capture: Table, site: str) -> dict[str, Any]:
    """Names for cfg.json; policy and checkpoint follow from results/{policy}/{checkpoint}/activations/{capture}."""
    folder = folder.resolve()
    named = folder.parent.name == "activations"
    return {
        "policy": folder.parents[2].name if named else None,
        "checkpoint": folder.parents[1].name if named else None,
        "checkpoint_sha256": capture.attributes.get("provenance", {}).get("checkpoint_sha256"),
        "site": site,
        "capture": folder.name,
        "capture_sha256": sha256_of_file(folder / INDEX),
    }


if __name__ == "__main__":
    main(program)
