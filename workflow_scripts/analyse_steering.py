"""From the runs of a steering study to index.json, candidates.csv, summary.txt and the figures."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.console import main
from policylens.steering.analysis import analysis
from policylens.steering.store import read_runs
from policylens.steering.text import summary
from policylens.stores.files import write_json, write_text
from policylens.stores.schemas import check_against
from policylens.stores.tabular import write_csv
from policylens.visualize import steering_plots


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, type=Path, help="runs.zarr")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, steering, block")
    parser.add_argument("--out", required=True, type=Path, help="index.json to write; all else stands beside it")
    arguments = parser.parse_args()
    found, attributes = read_runs(arguments.runs)
    record = analysis(found, attributes["candidates"], arguments.origin)
    check_against("steering", record, arguments.out)
    folder = arguments.out.parent
    steering_plots.frontier(folder / "frontier.png", record, found)
    steering_plots.confirmed(folder / "confirmed.png", record)
    write_csv(folder / "candidates.csv", [row_of(one) for one in record["candidates"]])
    write_text(folder / "summary.txt", summary(record))
    write_json(arguments.out, record)


def row_of(candidate: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in candidate.items() if name not in ("means", "latents", "units")}
    units = [f"{site} {' '.join(map(str, numbers))}" for site, numbers in candidate.get("units", {}).items()]
    told = {"latents": " ".join(map(str, candidate["latents"])), "units": "; ".join(units)}
    return own | told | candidate["means"]


if __name__ == "__main__":
    main(program)
