"""Put a trained member of a sweep into its own folder: the same files, linked where the file system can."""

import argparse
import contextlib
import os
import shutil
from pathlib import Path

from policylens.console import main
from policylens.errors import UserError
from policylens.stores.files import read_json, replacing

FILES = ("sae_weights.safetensors", "training.json", "training.csv", "cfg.json")


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", required=True, type=Path, help="folder of the sweep's training")
    parser.add_argument("--member", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder of the SAE")
    arguments = parser.parse_args()
    members = read_json(arguments.training / "index.json")["members"]
    if arguments.member not in members:
        raise UserError(f"{arguments.training}: holds no member {arguments.member!r}; train the sweep again")
    trained = arguments.training / members[arguments.member]
    for name in FILES:
        publish(trained / name, arguments.out / name)


def publish(source: Path, target: Path) -> None:
    if not source.exists():
        raise UserError(f"{source}: the trained file is gone; delete {source.parents[1] / 'index.json'} and run again")
    with replacing(target) as temporary:
        with contextlib.suppress(OSError):
            os.link(source, temporary)
        if not temporary.exists():
            shutil.copyfile(source, temporary)
    os.utime(target)  # as new as the job that made it


if __name__ == "__main__":
    main(program)
