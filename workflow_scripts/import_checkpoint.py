"""Bring a checkpoint (folder, family's own format, or hf://org/repo@revision/path) into the one form."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.policies.importing import import_checkpoint


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", required=True, help="folder, file, or hf://org/repo@revision/path")
    parser.add_argument("--family", required=True, help="policy family it belongs to")
    parser.add_argument("--options", default="{}", type=json.loads, help="JSON: what the import needs beyond the file")
    parser.add_argument("--out", required=True, type=Path, help="folder for model.safetensors and policy.json")
    arguments = parser.parse_args()
    import_checkpoint(arguments.path, arguments.out, arguments.family, arguments.options)


if __name__ == "__main__":
    main(program)
