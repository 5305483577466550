"""Put a trained or imported member of a sweep into its own folder: the same files, linked where the file system can."""

import argparse
import contextlib
import os
import shutil
from pathlib import Path

from policylens.console import main
from policylens.errors import UserError
from policylens.sae.files import FREQUENCIES
from policylens.stores.files import read_json, replacing

FILES = ("sae_weights.safetensors", "training.json", "training.csv", "cfg.json")


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--training", type=Path, help="folder of the sweep's training")
    made.add_argument("--imported", type=Path, help="folder of the imported SAE")
    parser.add_argument("--member", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder of the SAE")
    arguments = parser.parse_args()
    folder = arguments.imported or trained(arguments.training, arguments.member)
    (arguments.out / FREQUENCIES).unlink(missing_ok=True)
    names = (FREQUENCIES, *FILES) if (folder / FREQUENCIES).exists() else FILES
    for name in names:
        publish(folder / name, arguments.out / name)


def trained(training: Path, member: str) -> Path:
    members = read_json(training / "index.json")["members"]
    if member not in members:
        raise UserError(f"{training}: holds no member {member!r}; train the sweep again")
    return training / members[member]


def publish(source: Path, target: Path) -> None:
    if not source.exists():
        raise UserError(f"{source}: the file is gone; delete {source.parents[1] / 'index.json'} and run again")
    with replacing(target) as temporary:
        with contextlib.suppress(OSError):
            os.link(source, temporary)
        if not temporary.exists():
            shutil.copyfile(source, temporary)
    os.utime(target)  # as new as the job that made it


if __name__ == "__main__":
    main(program)
