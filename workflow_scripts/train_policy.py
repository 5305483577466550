"""Train a policy of one of our families; can be interrupted at any time and run again to go on."""

import argparse
import json
from pathlib import Path

import torch

from policylens.console import main
from policylens.policies.registry import require, room
from policylens.stores.lock import writing


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", required=True, help="policy family")
    parser.add_argument("--settings", required=True, help="JSON: settings of the family's training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--out", required=True, type=Path, help="folder for the log and the snapshots")
    arguments = parser.parse_args()
    require(arguments.family, "training", "training")
    torch.set_num_threads(arguments.threads)
    training = room(arguments.family, "training")
    with writing(arguments.out):
        training.train(json.loads(arguments.settings), arguments.out, arguments.seed)


if __name__ == "__main__":
    main(program)
