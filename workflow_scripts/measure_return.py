"""Run a policy in its environment with an SAE's reconstruction in the activation's place, and write return.json."""

import argparse
import json
from pathlib import Path

import torch

from policylens.console import main
from policylens.devices import device
from policylens.evaluation.closed_loop import runs_of, summarise
from policylens.policies.editing import Edited
from policylens.policies.registry import load_policy, require, room
from policylens.progress import progress
from policylens.sae.activations import read_activations, rows_of_split, training_mean
from policylens.sae.files import load_sae
from policylens.sae.origin import check_checkpoint, check_fits
from policylens.statistics.resampling import Resampling
from policylens.stores.files import write_json
from policylens.stores.schemas import check_against
from policylens.stores.tables import open_table
from policylens.visualize import return_plots

POOL_ROWS = 4096
ORIGIN = ("policy", "checkpoint", "checkpoint_sha256", "site")


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae", required=True, type=Path, help="the SAE's folder")
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder: what resampling draws from")
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--settings", required=True, help="JSON: settings of the family's returns")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of initial states, of the environment, and of resampling")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--title", required=True, help="of the figure: policy, checkpoint, site and member")
    parser.add_argument("--out", required=True, type=Path, help="return.json to write; return.png stands beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.checkpoint, arguments.device)
    family = policy.record["family"]
    require(family, "returns", "measuring returns")
    sae = load_sae(arguments.sae).to(arguments.device)
    check_checkpoint(arguments.sae, sae, policy.record)
    output_site = sae.cfg.output_site
    capture = open_table(arguments.capture, arguments.row_space)
    check_fits(arguments.sae, sae, arguments.site, capture)
    rows = rows_of_split(capture, arguments.split, POOL_ROWS, arguments.seed)
    pool = read_activations(capture.array(output_site or arguments.site), rows.numbers)
    mean = training_mean(capture, output_site or arguments.site)
    runs = runs_of(sae, arguments.site, output_site, pool, arguments.seed, mean)
    settings, episodes = json.loads(arguments.settings), range(arguments.episodes)
    returns = room(family, "returns").returns
    found = {
        name: returns(Edited(policy, edits), settings, episodes, arguments.seed)
        for name, edits in progress(runs.items(), len(runs), "returns", "runs")
    }
    report = {
        "format": 1,
        **{name: getattr(sae.cfg, name) for name in ORIGIN},
        "capture": arguments.capture.resolve().name,
        "settings": settings,
        "seed": arguments.seed,
        "n_episodes": arguments.episodes,
        "tasks": summarise(found, episodes, Resampling(seed=arguments.seed)),
    }
    check_against("sae_return", report, arguments.out)
    return_plots.returns(arguments.out.with_suffix(".png"), report, arguments.title)
    write_json(arguments.out, report)


if __name__ == "__main__":
    main(program)
