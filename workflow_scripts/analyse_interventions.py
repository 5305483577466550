"""From a site's effects to analysis.json, ranking.csv, summary.txt and the figures."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.console import main
from policylens.interventions.analysis import analysis
from policylens.interventions.effects import Effects
from policylens.interventions.profiles import half_effects, raised_effects
from policylens.interventions.table import ranking_rows
from policylens.interventions.text import summary
from policylens.stores.files import write_json, write_text
from policylens.stores.schemas import check_against
from policylens.stores.tabular import write_csv
from policylens.visualize import effect_plots, profile_plots

SHOWN = 30


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effects", required=True, type=Path, help="effects.zarr")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, site, sae, capture")
    parser.add_argument("--out", required=True, type=Path, help="analysis.json to write; all else stands beside it")
    parser.add_argument("--clusters", type=int, default=0, help="how many; 0: what separates latents best")
    parser.add_argument("--seed", type=int, default=0, help="of clusters and their nulls")
    arguments = parser.parse_args()
    effects = Effects(arguments.effects)
    record = analysis(effects, arguments.origin, clusters=arguments.clusters or None, seed=arguments.seed)
    check_against("intervention", record, arguments.out)
    draw(effects, record, arguments.out.parent)
    write_csv(arguments.out.with_name("ranking.csv"), ranking_rows(record))
    write_text(arguments.out.with_name("summary.txt"), summary(record))
    write_json(arguments.out, record)


def draw(effects: Effects, record: Mapping[str, Any], folder: Path) -> None:
    """The figures are of the first mode: the others are in the store."""
    mode = effects.modes[0]
    found, outcomes = effects.group(mode), record["modes"][mode]
    title = f"{record['policy']} / {record['checkpoint']} / {record['site']}"
    note = (
        f"each latent of {record['sae']} changed alone ({mode}); {record['n_rows']:,} rows of "
        f"{record['n_episodes']:,} episodes"
    )
    worth = sum(found[f"{name}_norm"] / (found[f"{name}_norm"].max() or 1) for name in effects.outcomes)
    order = np.argsort(-worth, kind="stable")[:SHOWN]
    chosen = {name: found[f"{name}_mean"][order] for name in effects.outcomes}
    effect_plots.matrices(folder / "matrices.png", chosen, found["latent"][order], title, note)
    effect_plots.importance(
        folder / "importance.png", {name: own["ranking"] for name, own in outcomes.items()}, title, note
    )
    effect_plots.controls(
        folder / "controls.png", {name: own["controls"] for name, own in outcomes.items()}, title, note
    )
    raised = half_effects(raised_effects(found, list(effects.outcomes)), effects.attributes["fold_rows"])
    profile_plots.clusters(folder / "clusters.png", record["clusters"][mode], raised, found["latent"], title, note)
    phases = record["phases"]
    told = f"{note}; {phases['label']}: {phases['description']}" if phases else note
    profile_plots.phases(
        folder / "phases.png", phases and phases["modes"][mode], phases and phases["names"], title, told
    )


if __name__ == "__main__":
    main(program)
