"""Gather a sweep's sites and members into its index.json: the headline target of SAE training."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.stores.files import read_json, write_json


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summaries", required=True, nargs="+", type=Path, help="each site's scaling.json")
    parser.add_argument("--beside", nargs="*", default=[], type=Path, help="further results, in the sweep's folder")
    parser.add_argument("--out", required=True, type=Path, help="index.json to write")
    arguments = parser.parse_args()
    sites = {path.parent.parent.name: read_json(path) for path in arguments.summaries}
    beside = sorted(str(path.relative_to(arguments.out.parent)) for path in arguments.beside)
    write_json(arguments.out, {"kind": "sae", "sites": sites, "beside": beside})


if __name__ == "__main__":
    main(program)
