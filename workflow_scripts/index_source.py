"""Index a source's parts, and settle the final split of every row across all of them."""

import argparse
import json
from pathlib import Path

from policylens.capture.splits import write_splits
from policylens.console import main


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", required=True, nargs="+", type=Path, help="root files <part>.zarr/zarr.json")
    parser.add_argument("--split", required=True, type=json.loads, help="JSON: shares of train, validation and test")
    parser.add_argument("--source", required=True, help="name of the source")
    parser.add_argument("--out", required=True, type=Path, help="the source's folder")
    arguments = parser.parse_args()
    parts = [root.parent.stem for root in arguments.parts]
    write_splits(arguments.out, parts, arguments.split, arguments.source)


if __name__ == "__main__":
    main(program)
