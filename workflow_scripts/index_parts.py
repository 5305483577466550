"""Index the parts of a capture or a label set: names, rows and digests, as the folder's index.json."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.stores.tables import write_index


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", required=True, nargs="+", type=Path, help="root files <part>.zarr/zarr.json")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the parts")
    arguments = parser.parse_args()
    write_index(arguments.out, [root.parent.stem for root in arguments.parts])


if __name__ == "__main__":
    main(program)
