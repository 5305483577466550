"""Train one SAE on the training rows of a capture's site and write its weights, settings and history."""

import argparse
import json
from pathlib import Path

import torch

from policylens.console import main
from policylens.devices import device
from policylens.progress import progress
from policylens.sae.files import load_sae, save_sae
from policylens.sae.origin import origin
from policylens.sae.settings import resolve
from policylens.sae.training import train_on
from policylens.sae.training_rows import Recorded, training_rows


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--settings", required=True, help="JSON: see policylens/sae/settings.py")
    parser.add_argument("--rows", type=int, default=0, help="train on so many rows, drawn by seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = resolve(json.loads(arguments.settings))
    names = origin(arguments.capture, arguments.row_space, arguments.site)
    recorded = [Recorded(arguments.capture, {})]
    output_site, limit, seed = settings["output_site"], arguments.rows, arguments.seed
    rows = training_rows(recorded, arguments.site, output_site, arguments.row_space, limit=limit, seed=seed)
    start = load_sae(Path(settings["start"])) if settings["start"] else None
    names["output_site"] = output_site
    sae, history = train_on(
        rows,
        settings,
        seed,
        start,
        arguments.device,
        lambda steps: progress(steps, len(steps), f"training {arguments.out.name}", "steps"),
        names,
    )
    save_sae(arguments.out, sae, history)


if __name__ == "__main__":
    main(program)
