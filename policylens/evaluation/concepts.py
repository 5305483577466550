"""The concept part of metrics.json: single latents against labels, and sparse probes, each beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from policylens.concepts.phases import check_phase_values, phase_edges, phase_of
from policylens.errors import UserError
from policylens.evaluation.alignment import Alignment, per_target, summary
from policylens.evaluation.linear_probe import linear_probe
from policylens.evaluation.observations import Encoding
from policylens.evaluation.probing import probing
from policylens.evaluation.targets import SPLITS, make_targets
from policylens.evaluation.units import (
    Units,
    component_units,
    explained_variance,
    neurons,
    principal_components,
    random_units,
    sae_units,
)
from policylens.sae.activations import Rows, flattened, read_activations, rows_of_split
from policylens.sae.base import SAE
from policylens.statistics.resampling import Resampling
from policylens.stores.tables import Table

ROWS = 20_000
KS = (1, 2, 5)
Plain = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What of a sweep's `evaluation.concepts` concerns the measuring.

    names: labels of the set, all if empty. rows: at most so many per split (validation and test: whole episodes).
    phase: {"label": name, "bins": quantiles of the training rows} or {"label": name, "edges": [numbers]}; None: no
    phases. probing: the k of sparse probing.
    """

    names: Sequence[str] = ()
    rows: int = ROWS
    phase: Mapping[str, Any] | None = None
    probing: Sequence[int] = KS


class Site(NamedTuple):
    """Activations of a capture at one site."""

    capture: Table
    name: str


class Splits(NamedTuple):
    """Rows per split: of the capture, and, with one row per position, activations (n, d) and episodes (n,)."""

    rows: Mapping[str, Rows]
    positions: int
    activations: Mapping[str, np.ndarray]
    episodes: Mapping[str, np.ndarray]

    def repeated(self, values: np.ndarray) -> np.ndarray:
        """One entry per row as one per position."""
        return values if self.positions == 1 else np.repeat(values, self.positions, axis=0)


def read_splits(site: Site, options: Options, seed: int) -> Splits:
    """All three splits of a site, or `options.rows` of each."""
    column = site.capture.array(site.name)
    positions = int(np.prod(column.shape[1:-1], dtype=np.int64))
    limit = max(1, options.rows // positions) if options.rows else options.rows
    rows = {split: rows_of_split(site.capture, split, limit, seed) for split in SPLITS}
    read = {split: read_activations(column, found.numbers) for split, found in rows.items()}
    episodes = {split: np.repeat(found.episodes, positions) for split, found in rows.items()}
    return Splits(rows, positions, {split: flattened(values) for split, values in read.items()}, episodes)


def read_labels(labels: Table, capture: Table, splits: Splits, options: Options) -> dict[str, dict[str, np.ndarray]]:
    """Split -> label name -> values; UserError if the label set is of other rows, or lacks a name."""
    check_same_rows(labels, capture)
    names = options.names or [name for name in labels.names if name not in ("episode", "step")]
    return {
        split: {name: splits.repeated(labels.array(name).read(rows.numbers)) for name in names}
        for split, rows in splits.rows.items()
    }


def check_same_rows(one: Table, other: Table) -> None:
    """UserError unless two tables hold the same episodes row by row."""
    same = one.n_rows == other.n_rows and np.array_equal(one.coordinate("episode"), other.coordinate("episode"))
    if not same:
        raise UserError(f"{one.folder}: its rows are not those of {other.folder}; both must be of the same source")


def phase_codes(labels: Table, splits: Splits, phase: Mapping[str, Any]) -> tuple[np.ndarray, Plain]:
    """Phase of every test row, (n,) integers, and what to record: the label and the edges between phases."""
    values = {
        split: splits.repeated(labels.array(phase["label"]).read(splits.rows[split].numbers))
        for split in ("train", "test")
    }
    for value in values.values():
        check_phase_values(value, phase["label"])
    edges = phase_edges(values["train"], phase)
    codes = phase_of(values["test"], edges)
    return codes, {"label": phase["label"], "edges": edges}


def concept_report(
    sae: SAE,
    site: Site,
    labels: Table,
    options: Options,
    resampling: Resampling,
    *,
    observed: tuple[Table, Sequence[str]] | None = None,
    untrained: tuple[SAE, Site] | None = None,
) -> tuple[Plain, Plain | None]:
    """The entries `alignment` and `probing` of metrics.json.

    labels: row-aligned with the capture. observed: the source and the names of its arrays that the policy sees.
    untrained: the same SAE of another checkpoint (named so as it is usually one before training), and its site.
    """
    splits = read_splits(site, options, resampling.seed)
    targets, left_out = make_targets(read_labels(labels, site.capture, splits, options), splits.episodes)
    codes, phase = phase_codes(labels, splits, options.phase) if options.phase else (None, None)
    alignment = Alignment(targets, splits.episodes["test"], codes)
    units = competing_units(sae, site, splits, resampling.seed, untrained)
    methods = {name: alignment.best_units(own) for name, own in units.items()}
    methods["linear_probe"] = linear_probe(alignment, splits.activations)
    if observed is not None:
        methods["observation_probe"] = linear_probe(alignment, _observed(observed, splits, resampling.seed))
    same = alignment.expected_best(units["sae"], [own.count for name, own in units.items() if name != "sae"])
    entries = per_target(alignment, methods, resampling)
    basis = _basis(labels, splits, entries, left_out, phase)
    found = {**basis, "methods": summary(alignment, methods, same, resampling), "targets": entries}
    return found, _probing(alignment, sae, splits, units, options, resampling)


def competing_units(
    sae: SAE, site: Site, splits: Splits, seed: int, untrained: tuple[SAE, Site] | None = None
) -> dict[str, Units]:
    """The units of every method that has some: sae, neurons, random_sae, pca, and untrained_sae where there is one."""
    own, train = sae_units(sae, splits.activations), splits.activations["train"]
    given = train if sae.cfg.output_site is None else _read(site._replace(name=sae.cfg.output_site), splits)["train"]
    found = {
        "sae": own,
        "neurons": neurons(splits.activations),
        "random_sae": random_units(splits.activations, own.count, own.facts["l0"], seed),
        "pca": component_units(principal_components(train), splits.activations, explained_variance(sae, train, given)),
    }
    if untrained is not None:
        other, place = untrained
        found["untrained_sae"] = sae_units(other, _read(place, splits))
    return found


def _read(site: Site, splits: Splits) -> dict[str, np.ndarray]:
    """The activations (n, d) of another site at the same rows."""
    column = site.capture.array(site.name)
    return {split: flattened(read_activations(column, rows.numbers)) for split, rows in splits.rows.items()}


def _observed(observed: tuple[Table, Sequence[str]], splits: Splits, seed: int) -> dict[str, np.ndarray]:
    source, names = observed
    encoding = Encoding(source, names, splits.rows["train"].numbers, seed)
    return {split: splits.repeated(encoding.columns(rows.numbers)) for split, rows in splits.rows.items()}


def _basis(
    labels: Table, splits: Splits, entries: Sequence[Plain], left_out: Sequence[Plain], phase: Plain | None
) -> Plain:
    return {
        "label_set": labels.folder.name,
        "n_rows": {split: len(episodes) for split, episodes in splits.episodes.items()},
        "n_episodes": {split: len(np.unique(episodes)) for split, episodes in splits.episodes.items()},
        "n_targets": len(entries),
        "left_out": list(left_out),
        "phase": phase,
    }


def _probing(
    alignment: Alignment,
    sae: SAE,
    splits: Splits,
    units: Mapping[str, Units],
    options: Options,
    resampling: Resampling,
) -> Plain | None:
    if not options.probing:
        return None
    every = component_units(principal_components(splits.activations["train"]), splits.activations)
    competing = {"sae": units["sae"], "neurons": units["neurons"], "pca": every}
    means, details = probing(alignment, competing, options.probing, resampling)
    return {
        "k": means,
        "targets": [
            {"name": target.name, "k": detail} for target, detail in zip(alignment.targets, details, strict=True)
        ],
    }
