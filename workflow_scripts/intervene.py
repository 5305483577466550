"""Measure what changing each latent of the SAE at a site does, exactly, and write the effects as a store."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from policylens.capture.batches import batches_of_rows
from policylens.concepts.phases import check_phase_values, phase_edges, phase_names, phase_of
from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.evaluation.concepts import check_same_rows
from policylens.evaluation.fidelity import other_episodes
from policylens.interventions.effects import write_effects
from policylens.interventions.phases import Phases
from policylens.interventions.study import Settings, settings_of, study
from policylens.interventions.subject import BATCH_ROWS, Subject
from policylens.policies.checkpoint import read_record
from policylens.policies.registry import load_policy
from policylens.sae.activations import whole_episodes
from policylens.sae.files import load_sae
from policylens.sae.origin import digests
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.shelf import Shelf
from policylens.stores.splits import SPLITS
from policylens.stores.tables import INDEX, Table, open_table


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    settings = settings_of(arguments.settings, arguments.seed)
    origin = provenance_of(arguments)
    stamp = json.dumps([origin, arguments.code, arguments.site, arguments.threads, arguments.device], sort_keys=True)
    shelf = Shelf(arguments.out.with_name("unfinished"), stamp)
    capture = open_table(arguments.capture, arguments.row_space)
    subject, rows = subject_of(arguments, settings, capture)
    phases, named = phases_of(arguments, capture, rows)
    found = study(subject, settings, shelf, phases)
    for name, arrays in found.groups.items():
        if name.endswith("_rows"):
            numbers = rows[arrays.pop("place")]
            arrays |= {"row": numbers, **{key: capture.coordinate(key)[numbers] for key in ("episode", "step")}}
    outcomes = {name: values.shape[1] for name, values in subject.baseline(True).outcomes.items()}
    attributes = {
        "provenance": origin,
        "site": arguments.site,
        "modes": [mode.name for mode in settings.modes],
        "outcomes": outcomes,
        "later_sites": subject.outcomes.sites,
        "n_rows": subject.n_rows,
        "n_episodes": len(subject.episodes.lengths),
        "fold_rows": subject.episodes.fold_rows.tolist(),
        "phases": named,
        "n_latents": subject.latents.shape[2],
        "l0": float(subject.latents.counts.sum() / subject.n_rows / subject.latents.shape[1]),
    }
    write_effects(arguments.out, found, attributes)
    shelf.clear()


def subject_of(arguments: argparse.Namespace, settings: Settings, capture: Table) -> tuple[Subject, np.ndarray]:
    """What is intervened on, and the numbers of its rows in the capture."""
    source = open_table(arguments.source)
    numbers, episodes = whole_episodes(capture, arguments.split, arguments.rows, arguments.seed)
    policy = load_policy(arguments.checkpoint, arguments.device)
    saes = {site: load_sae(folder).to(arguments.device) for site, folder in arguments.saes.items()}
    for site in saes.keys() - policy.sites.keys():
        raise UserError(f"{arguments.checkpoint}: the policy has no site {site!r}; it has {', '.join(policy.sites)}")
    donors = other_episodes(episodes, settings.seed)
    batches = batches_of_rows(source, policy.observations, numbers, BATCH_ROWS)
    return Subject(policy, arguments.site, saes, batches, episodes, donors), numbers


def phases_of(arguments: argparse.Namespace, capture: Table, rows: np.ndarray) -> tuple[Phases | None, dict | None]:
    """The phase of each row, and what the store says of phases; None where none are asked for."""
    if arguments.phase is None:
        return None, None
    labels, label = open_table(arguments.labels, arguments.row_space), arguments.phase["label"]
    check_same_rows(labels, capture)
    column = labels.array(label)
    values = column.read()
    check_phase_values(values, label)
    train = capture.coordinate("split") == SPLITS.index("train")
    edges = phase_edges(values[train] if train.any() else values, arguments.phase)
    codes = phase_of(values[rows], edges)
    names = phase_names(label, edges, values.dtype.kind in "iub")
    counts = np.bincount(codes, minlength=len(names)).tolist()
    named = {"label": label, "description": column.description, "edges": edges, "names": names, "rows": counts}
    return Phases(codes, len(names)), named


def provenance_of(arguments: argparse.Namespace) -> dict:
    inputs = digests(arguments.saes)
    inputs |= {"capture": sha256_of_file(arguments.capture / INDEX), "source": sha256_of_file(arguments.source / INDEX)}
    if arguments.phase is not None:
        inputs["labels"] = sha256_of_file(arguments.labels / INDEX)
    settings = {**arguments.settings, "split": arguments.split, "rows": arguments.rows, "phase": arguments.phase}
    sha256 = read_record(arguments.checkpoint)["weights"]["sha256"]
    return provenance(settings=settings, seed=arguments.seed, checkpoint_sha256=sha256, inputs=inputs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--source", required=True, type=Path, help="folder of the source: observations")
    parser.add_argument("--capture", required=True, type=Path, help="folder of a capture of it: which rows there are")
    parser.add_argument("--sae", required=True, action="append", help="SITE=FOLDER, of the site and of later ones")
    parser.add_argument("--site", required=True, help="where latents are changed")
    parser.add_argument("--row-space", help="of the sites, as the capture names it; its only one if left out")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: modes, features, controls...")
    parser.add_argument("--phase", type=json.loads, help="JSON: label and bins or edges, to tell phases apart")
    parser.add_argument("--labels", type=Path, help="folder of the label set that --phase names a label of")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test", "all"])
    parser.add_argument("--rows", type=int, default=0, help="whole episodes of at most so many rows; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--code", default="", help="digest of the code: unfinished work of other code is not gone on with"
    )
    parser.add_argument("--threads", type=int, default=1, help="they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="store to write, effects.zarr")
    arguments = parser.parse_args()
    arguments.saes = {site: Path(folder) for site, _, folder in (word.partition("=") for word in arguments.sae)}
    if arguments.phase is not None and arguments.labels is None:
        parser.error("--phase needs --labels: the folder of a label set")
    if arguments.site not in arguments.saes:
        parser.error(f"--sae {arguments.site}=FOLDER is missing: the SAE whose latents are changed")
    return arguments


if __name__ == "__main__":
    main(program)
