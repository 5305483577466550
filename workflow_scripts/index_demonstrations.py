"""Index demonstrations: per task its file, how many attempts succeeded, and how long they took."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.policies.vla.libero.index import index
from policylens.stores.files import write_json
from policylens.stores.schemas import check_against


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", required=True, nargs="+", type=Path, help="files <task>.hdf5")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: what they were recorded with")
    parser.add_argument("--out", required=True, type=Path, help="index.json")
    arguments = parser.parse_args()
    found = index(arguments.files, arguments.settings)
    check_against("demonstrations", found, arguments.out)
    write_json(arguments.out, found)


if __name__ == "__main__":
    main(program)
