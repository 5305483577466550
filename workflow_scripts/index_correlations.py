"""Write a correlation's index.json, and the figure of all its sites."""

import argparse
from pathlib import Path
from typing import Any

from policylens.console import main
from policylens.correlations.measure import MEASURES
from policylens.stores.files import read_json, write_json
from policylens.visualize.correlation_plots import across_sites

KEPT = ("sae", "n_rows", "n_episodes", "n_latents", "n_active", "n_units", "l0", "significant")


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", required=True, nargs="+", type=Path, help="analysis.json of every site, in order")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    records = [read_json(path) for path in arguments.analyses]
    across_sites(arguments.out.with_name("across_sites.png"), records)
    sites = {
        record["site"]: {**{key: record[key] for key in KEPT}, "inputs": largest(record), "folder": path.parent.name}
        for path, record in zip(arguments.analyses, records, strict=True)
    }
    write_json(arguments.out, {"format": 1, "sites": sites})


def largest(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Input -> the largest |r| of any latent, per measure."""
    return {own["name"]: {measure: own[measure]["max"] for measure in MEASURES} for own in record["inputs"]}


if __name__ == "__main__":
    main(program)
