"""Put the trainings of a sweep at all its sites onto one page: reconstruction, sparsity, dead and active latents."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.report.training_stats import training_stats
from policylens.report.training_stats_page import page
from policylens.stores.files import read_json, replacing, write_json
from policylens.stores.schemas import check_against

TRAINING = "training.json"


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--metrics", required=True, nargs="+", type=Path, help="<site>/<member>/metrics.json, beside its training.json"
    )
    parser.add_argument("--policy", required=True, help="name of the policy")
    parser.add_argument("--checkpoint", required=True, help="name of the checkpoint")
    parser.add_argument("--sweep", required=True, help="name of the sweep")
    parser.add_argument("--out", required=True, type=Path, help="training_stats.json to write; the page beside it")
    arguments = parser.parse_args()
    found = {}
    for path in arguments.metrics:
        report = read_json(path)
        check_against("sae_metrics", report, path)
        site, member = path.resolve().parts[-3:-1]
        found[site, member] = report, read_json(path.parent / TRAINING)["history"]
    stats = training_stats(found, arguments.policy, arguments.checkpoint, arguments.sweep)
    check_against("sae_training_stats", stats, arguments.out)
    with replacing(arguments.out.with_suffix(".html")) as temporary:
        temporary.write_text(page(stats), encoding="utf-8")
    write_json(arguments.out, stats)


if __name__ == "__main__":
    main(program)
