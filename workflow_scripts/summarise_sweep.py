"""Put all members of a sweep at one site into one table, and draw its figures."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.errors import UserError
from policylens.evaluation.sweep import sweep_summary, table_rows
from policylens.sae.files import TRAINING
from policylens.stores.files import read_json, write_json
from policylens.stores.schemas import check_against
from policylens.stores.tabular import write_csv
from policylens.visualize import concept_plots, sae_plots
from policylens.visualize.fidelity_plots import fidelity
from policylens.visualize.pareto_plots import pareto


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--metrics", required=True, nargs="+", type=Path, help="each member's metrics.json, beside its training.json"
    )
    parser.add_argument("--returns", nargs="*", default=[], type=Path, help="return.json of the members that have one")
    parser.add_argument("--title", required=True, help="of the figures: policy, checkpoint and site")
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    arguments = parser.parse_args()
    names = [path.resolve().parent.name for path in arguments.metrics]
    if len(set(names)) < len(names):
        raise UserError("two members' folders have the same name; give each member once")
    reports = {name: read_json(path) for name, path in zip(names, arguments.metrics, strict=True)}
    for path, report in zip(arguments.metrics, reports.values(), strict=True):
        check_against("sae_metrics", report, path)
    histories = {
        name: read_json(path.parent / TRAINING)["history"] for name, path in zip(names, arguments.metrics, strict=True)
    }
    returns = {path.resolve().parent.name: read_json(path) for path in arguments.returns}
    for path, report in zip(arguments.returns, returns.values(), strict=True):
        check_against("sae_return", report, path)
    summary = sweep_summary(reports, returns)
    sae_plots.scaling(arguments.out / "scaling.png", reports, arguments.title)
    sae_plots.density(arguments.out / "density.png", reports, arguments.title)
    fidelity(arguments.out / "fidelity.png", reports, arguments.title)
    pareto(arguments.out / "pareto.png", reports, arguments.title)
    sae_plots.training(arguments.out / "training.png", reports, histories, arguments.title)
    concept_plots.concepts(arguments.out / "concepts.png", reports, arguments.title)
    concept_plots.probing(arguments.out / "probing.png", reports, arguments.title)
    write_csv(arguments.out / "scaling.csv", table_rows(summary))
    write_json(arguments.out / "scaling.json", summary)


if __name__ == "__main__":
    main(program)
