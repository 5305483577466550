"""From a site's correlations to analysis.json, ranking.csv, summary.txt and the heat map."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.console import main
from policylens.correlations.analysis import analysis
from policylens.correlations.table import ranking_rows
from policylens.correlations.text import summary
from policylens.stores.files import write_json, write_text
from policylens.stores.groups import Groups
from policylens.stores.schemas import check_against
from policylens.stores.tabular import write_csv
from policylens.visualize.correlation_plots import heat_map


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--correlations", required=True, type=Path, help="correlations.zarr")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, site, sae, capture")
    parser.add_argument("--out", required=True, type=Path, help="analysis.json to write; all else stands beside it")
    arguments = parser.parse_args()
    store = Groups(arguments.correlations)
    record = analysis(store, arguments.origin)
    check_against("correlation", record, arguments.out)
    draw(store, record, arguments.out.with_name("heatmap.png"))
    write_csv(arguments.out.with_name("ranking.csv"), ranking_rows(store))
    write_text(arguments.out.with_name("summary.txt"), summary(record))
    write_json(arguments.out, record)


def draw(store: Groups, record: Mapping[str, Any], path: Path) -> None:
    title = f"{record['policy']} / {record['checkpoint']} / {record['site']}"
    note = (
        f"SAE {record['sae']}; {record['n_rows']:,} rows of {record['n_episodes']:,} episodes, split {record['split']}"
    )
    heat_map(path, store.group("inputs"), store.attributes["inputs"], title, note)


if __name__ == "__main__":
    main(program)
