"""From the directions of all pairs to index.json, pairwise_stats.json, summary.txt and the figures."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.directions.index import index
from policylens.directions.pairwise import flat
from policylens.directions.text import summary
from policylens.stores.files import write_json, write_text
from policylens.stores.schemas import check_against
from policylens.visualize.direction_plots import draw_cosines, draw_norms, draw_reliability


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", required=True, nargs="+", type=Path, help="analysis.json of every pair")
    parser.add_argument("--expected", required=True, type=json.loads, help="JSON: relations that the config expects")
    parser.add_argument("--seed", required=True, type=int, help="of rearrangements")
    parser.add_argument("--out", required=True, type=Path, help="index.json to write; all else stands beside it")
    arguments = parser.parse_args()
    record = index(arguments.analyses, arguments.expected, arguments.seed)
    check_against("directions", record, arguments.out)
    pairwise = flat(record["pairwise"])
    check_against("pairwise_stats", pairwise, arguments.out)
    draw_norms(arguments.out.with_name("norms.png"), record)
    draw_cosines(arguments.out.with_name("cosines.png"), record)
    draw_reliability(arguments.out.with_name("reliability.png"), record)
    write_json(arguments.out.with_name("pairwise_stats.json"), pairwise)
    write_text(arguments.out.with_name("summary.txt"), summary(record))
    write_json(arguments.out, record)


if __name__ == "__main__":
    main(program)
