"""Write an intervention's index.json: its sites, their SAEs and where the results are."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.stores.files import read_json, write_json


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", required=True, nargs="+", type=Path, help="analysis.json of every site")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    sites = {}
    for path in arguments.analyses:
        record = read_json(path)
        kept = {
            key: record[key] for key in ("sae", "n_rows", "n_episodes", "n_latents", "n_measured", "l0", "outcomes")
        }
        sites[record["site"]] = {**kept, "modes": sorted(record["modes"]), "folder": path.parent.name}
    write_json(arguments.out, {"format": 1, "sites": sites})


if __name__ == "__main__":
    main(program)
