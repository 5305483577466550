"""Compare the members of a sweep at one site: stability across seeds, splitting and absorption across widths."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.evaluation import absorption
from policylens.evaluation.comparison import compare, other_rows
from policylens.evaluation.targets import Target, make_targets
from policylens.progress import progress
from policylens.sae.activations import Rows, flattened, read_activations, rows_of_split
from policylens.sae.base import SAE
from policylens.sae.files import load_sae
from policylens.sae.origin import check_fits
from policylens.statistics.resampling import Resampling
from policylens.stores.files import write_json
from policylens.stores.schemas import check_against
from policylens.stores.tables import Table, open_table
from policylens.visualize import comparison_plots

SPLITS = ("train", "validation", "test")
COORDINATES = ("episode", "step")
ORIGIN = ("policy", "checkpoint", "checkpoint_sha256", "site")


def program() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    names = [folder.resolve().name for folder in arguments.sae]
    if len(set(names)) < len(names):
        raise UserError("two SAEs' folders have the same name; give each member once")
    saes = {name: load_sae(folder).to(arguments.device) for name, folder in zip(names, arguments.sae, strict=True)}
    capture = open_table(arguments.capture, arguments.row_space)
    column = capture.array(arguments.site)
    for folder, sae in zip(arguments.sae, saes.values(), strict=True):
        check_fits(folder, sae, arguments.site, capture)
    positions = int(np.prod(column.shape[1:-1]))
    limit = max(1, arguments.rows // positions)
    rows = {split: rows_of_split(capture, split, limit, arguments.seed) for split in SPLITS}
    test = flattened(read_activations(column, rows["test"].numbers))
    written = {
        site: flattened(read_activations(capture.array(site), rows["test"].numbers))
        for site in {sae.cfg.output_site for sae in saes.values()} - {None}
    }
    episodes = np.repeat(rows["test"].episodes, positions)
    found = compare(saes, test, episodes, arguments.seed, tell, written)
    first = next(iter(saes.values())).cfg
    report = {
        "format": 1,
        **{name: getattr(first, name) for name in ORIGIN},
        "capture": arguments.capture.resolve().name,
        "split": "test",
        "n_rows": len(test),
        "n_episodes": len(np.unique(episodes)),
        **found,
        "absorption": absorbed(arguments, saes, capture, rows, positions),
    }
    check_against("sae_comparison", report, arguments.out)
    folder = arguments.out.parent
    comparison_plots.stability(folder / "stability.png", report, arguments.title)
    comparison_plots.splitting(folder / "splitting.png", report, arguments.title)
    comparison_plots.absorption(folder / "absorption.png", report, arguments.title)
    write_json(arguments.out, report)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae", required=True, nargs="+", type=Path, help="the members' folders")
    parser.add_argument("--capture", required=True, type=Path, help="the capture's folder")
    parser.add_argument("--site", required=True)
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    parser.add_argument("--labels", type=Path, help="folder of a label set of the capture's source: measure absorption")
    parser.add_argument("--targets", type=int, default=100, help="at most so many targets of the labels, by seed")
    parser.add_argument("--rows", type=int, default=20_000, help="at most so many rows per split, in memory at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--title", required=True, help="of the figures: policy, checkpoint and site")
    parser.add_argument("--out", required=True, type=Path, help="comparison.json to write; figures stand beside it")
    return parser.parse_args()


def tell(items: list[Any], what: str) -> Any:
    return progress(items, len(items), what, "comparisons")


def absorbed(
    arguments: argparse.Namespace, saes: dict[str, SAE], capture: Table, rows: dict[str, Rows], positions: int
) -> dict[str, Any] | None:
    """Absorption, or None without labels, for transcoders, and for sites with several positions per labelled row."""
    saes = {name: sae for name, sae in saes.items() if sae.cfg.output_site is None}
    if arguments.labels is None or positions > 1 or not saes:
        return None
    column = capture.array(arguments.site)
    labels = open_table(arguments.labels)
    if labels.n_rows != capture.n_rows:
        raise UserError(
            f"{arguments.labels}: {labels.n_rows} rows, the capture has {capture.n_rows}; give its source's"
        )
    targets = some_targets(labels, rows, arguments.targets, arguments.seed)
    activations = {split: read_activations(column, own.numbers) for split, own in rows.items()}
    elsewhere = {split: other_rows(own.episodes, arguments.seed) for split, own in rows.items()}
    return absorption.report(
        saes, targets, activations, rows["test"].episodes, elsewhere, Resampling(seed=arguments.seed)
    )


def some_targets(labels: Table, rows: dict[str, Rows], limit: int, seed: int) -> list[Target]:
    """At most `limit` targets of a label set, drawn by seed, in their own order."""
    names = [name for name in labels.names if name not in COORDINATES]
    values = {split: {name: labels.array(name).read(own.numbers) for name in names} for split, own in rows.items()}
    targets, _ = make_targets(values, {split: own.episodes for split, own in rows.items()})
    drawn = np.random.default_rng(seed).permutation(len(targets))[:limit]
    return [targets[number] for number in sorted(drawn)]


if __name__ == "__main__":
    main(program)
