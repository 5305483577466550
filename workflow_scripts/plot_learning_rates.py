"""Draw what the members of a sweep that differ in their learning rate come to."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.stores.files import read_json
from policylens.stores.schemas import check_against
from policylens.visualize.learning_rate_plots import learning_rates


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, nargs="+", type=Path, help="each member's metrics.json")
    parser.add_argument("--title", required=True, help="of the figure: policy, checkpoint and site")
    parser.add_argument("--out", required=True, type=Path, help="PNG to write")
    arguments = parser.parse_args()
    reports = {path.resolve().parent.name: read_json(path) for path in arguments.metrics}
    for path, report in zip(arguments.metrics, reports.values(), strict=True):
        check_against("sae_metrics", report, path)
    learning_rates(arguments.out, reports, arguments.title)


if __name__ == "__main__":
    main(program)
