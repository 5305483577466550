"""Convert LIBERO's HDF5 files, or those demonstrations of them that are asked for, to a LeRobot dataset."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.policies.vla.libero.conversion import convert
from policylens.policies.vla.libero.subset import Subset
from policylens.stores.lock import writing


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", required=True, nargs="+", type=Path, help="HDF5 files, in the dataset's order")
    parser.add_argument(
        "--subset", required=True, type=json.loads, help="JSON: tasks, containing, demos, align, actions"
    )
    parser.add_argument("--out", required=True, type=Path, help="the dataset's folder")
    arguments = parser.parse_args()
    with writing(arguments.out):
        convert(arguments.files, Subset(**arguments.subset), arguments.out)


if __name__ == "__main__":
    main(program)
