"""All interventions at one site: which latents, in which modes, beside which controls; piece by piece, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.interventions.controls import control, strengths
from policylens.interventions.exact import block_size, changes_of, every_pair, measure
from policylens.interventions.gradient import first_order
from policylens.interventions.modes import Mode, mode_of
from policylens.interventions.phases import Phases, density_in_phases, sizes_in_phases
from policylens.interventions.subject import Subject
from policylens.progress import progress
from policylens.statistics.directions import CONTROLS, random_directions
from policylens.stores.shelf import Arrays, Shelf

LATENTS_PER_PIECE = 64
BY_ROW = "_row_size"
"""Suffix of a piece's arrays that have an entry per row: not stored, phases are counted from them."""


@dataclass(frozen=True)
class Settings:
    """modes: of intervention. features: at most so many latents, the strongest first; 0: all that are ever active.

    controls: random directions of each kind; 0: none. controlled: for how many of the latents, by effect on the
    outcomes in turn; None: for all. keep_rows: outcomes whose effects are kept row by row. seed: of donors and
    directions.
    """

    modes: Sequence[Mode] = (Mode("zero"),)
    features: int = 0
    controls: int = 200
    controlled: int | None = 20
    keep_rows: Sequence[str] = field(default=())
    seed: int = 0


def settings_of(block: Mapping[str, Any], seed: int) -> Settings:
    """From the part of a block of config.yaml that `policylens.project.interventions.own_settings` gives."""
    own = {key: value for key, value in block.items() if key != "modes"}
    modes = tuple(mode_of(entry) for entry in block.get("modes", ["zero"]))
    names = [mode.name for mode in modes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the mode {name!r} stands there twice")
    if own.get("controlled") == "all":
        own["controlled"] = None
    return Settings(modes=modes, seed=seed, **own)


@dataclass(frozen=True)
class Found:
    """What a study comes to: group -> name -> array, in which every array has one row per latent (or per pair)."""

    groups: dict[str, Arrays]


def study(subject: Subject, settings: Settings, shelf: Shelf, phases: Phases | None = None) -> Found:
    """Measure everything that the settings ask for. phases: of the rows, to say in which each latent matters."""
    for name in settings.keep_rows:
        if name not in subject.baseline(True).outcomes:
            known = ", ".join(subject.baseline(True).outcomes)
            raise UserError(f"keep_rows: there is no outcome {name!r}; there are: {known}")
    latents = chosen(subject, settings.features)
    groups = {"latents": described(subject, latents)}
    for mode in settings.modes:
        effects, row_sizes = _effects(subject, mode, latents, shelf, phases is not None)
        groups[mode.name] = effects
        if phases is not None:
            found = {"latent": latents, "density": density_in_phases(subject, latents, phases)}
            for outcome, sizes in row_sizes.items():
                own = sizes_in_phases(sizes, phases, subject.episodes.of_row, settings.seed)
                found |= {f"{outcome}_{name}": values for name, values in own.items()}
            groups[f"{mode.name}_phases"] = _as_float32(found)
        groups[f"{mode.name}_gradient"] = {"latent": latents} | shelf.piece(
            f"{mode.name}-gradient", lambda mode=mode: _as_float32(first_order(subject, mode, latents))
        )
        if settings.controls and settings.controlled != 0:
            worth = controlled(effects, subject, settings.controlled)
            groups[f"{mode.name}_controls"] = _controls(subject, mode, latents[worth], settings, shelf)
        if settings.keep_rows:
            groups[f"{mode.name}_rows"] = _rows(subject, mode, latents, settings.keep_rows, shelf)
    return Found(groups)


def chosen(subject: Subject, limit: int) -> np.ndarray:
    """Numbers of the latents that are ever active, in ascending order: all, or those that contribute most on average.

    UserError if none is.
    """
    found = subject.latents
    alive = np.flatnonzero(found.counts)
    if len(alive) == 0:
        raise UserError("no latent of the SAE is active in any of these rows; there is nothing to intervene on")
    if limit and limit < len(alive):
        worth = found.contributions(subject.sae.W_dec.norm(dim=1).cpu().numpy())
        alive = np.sort(np.argsort(-worth, kind="stable")[:limit])
    return alive


def described(subject: Subject, latents: np.ndarray) -> Arrays:
    """What the latents are without any intervention."""
    found = subject.latents
    return {
        "latent": latents,
        "density": found.densities[latents].astype(np.float32),
        "active_rows": np.round(found.densities[latents] * subject.n_rows).astype(np.int64),
        "mean": found.means[latents],
        "active_mean": found.active_means[latents],
        "decoder_norm": subject.sae.W_dec.norm(dim=1).float().cpu().numpy()[latents],
    }


def controlled(effects: Arrays, subject: Subject, count: int | None) -> np.ndarray:
    """Places of the latents that get controls: of each outcome in turn the strongest that is not taken yet.

    count: so many of them; None: all.
    """
    orders = [
        np.argsort(-np.linalg.norm(effects[f"{name}_mean"], axis=1), kind="stable")
        for name in subject.baseline(True).outcomes
        if name not in subject.outcomes.sites
    ]
    in_turn = np.stack(orders, axis=1).ravel()
    _, first = np.unique(in_turn, return_index=True)
    return np.sort(in_turn[np.sort(first)][:count])


def _effects(
    subject: Subject, mode: Mode, latents: np.ndarray, shelf: Shelf, by_row: bool
) -> tuple[Arrays, dict[str, np.ndarray]]:
    """What is stored of a mode's effects; and, where asked for, outcome -> sizes row by row, (k, n)."""
    pieces = [
        shelf.piece(f"{mode.name}-{number:05d}", lambda piece=piece: _measured(subject, mode, piece, by_row))
        for number, piece in progress(list(_pieces(subject, latents)), None, f"{subject.site} {mode.name}", "pieces")
    ]
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    sizes = {name: joined.pop(f"{name}{BY_ROW}") for name in subject.baseline(True).outcomes if by_row}
    return joined, sizes


def _pieces(subject: Subject, latents: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    size = min(LATENTS_PER_PIECE, block_size(subject))
    for start in range(0, len(latents), size):
        yield start // size, latents[start : start + size]


def _measured(subject: Subject, mode: Mode, latents: np.ndarray, by_row: bool) -> Arrays:
    sums, counts = measure(subject, mode, latents)
    found = {"latent": latents, "rows_changed": counts}
    for outcome, strength in strengths(sums, subject.episodes).items():
        folds = sums[outcome].fold_means(subject.episodes)
        own = {**sums[outcome].means(subject.episodes), **strength, "raised": folds}
        own["conditional"] = sums[outcome].signed / np.maximum(counts, 1)[:, None]
        found |= {f"{outcome}_{name}": values for name, values in own.items()}
        if by_row:
            found[f"{outcome}{BY_ROW}"] = sums[outcome].row_size
    return _as_float32(found)


def _controls(subject: Subject, mode: Mode, latents: np.ndarray, settings: Settings, shelf: Shelf) -> Arrays:
    rows = subject.activation.cpu().numpy()
    vectors = {
        kind: random_directions(kind, rows, settings.controls, settings.seed + number)
        for number, kind in enumerate(CONTROLS)
    }

    def beside(latent: int) -> Arrays:
        found = {}
        for kind, own in vectors.items():
            for outcome, values in control(subject, mode, latent, own).items():
                found |= {f"{outcome}_{kind}_{name}": row for name, row in values.items()}
        return _as_float32(found)

    counted = progress(latents, len(latents), f"{subject.site} {mode.name}: controls", "latents")
    pieces = [shelf.piece(f"{mode.name}-control-{latent}", lambda own=latent: beside(int(own))) for latent in counted]
    return {"latent": latents} | {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}


def _rows(subject: Subject, mode: Mode, latents: np.ndarray, outcomes: Sequence[str], shelf: Shelf) -> Arrays:
    """Effects pair by pair, latent after latent."""
    before = subject.baseline(mode.keep_error).outcomes

    def effects(piece: np.ndarray) -> Arrays:
        taken: dict[int, list[Arrays]] = {number: [] for number in range(len(piece))}

        def add(number: int, rows: np.ndarray, after: dict[str, np.ndarray]) -> None:
            own = {name: after[name] - before[name][rows] for name in outcomes}
            taken[number].append({"latent": np.full(len(rows), piece[number]), "place": rows, **own})

        nowhere = np.zeros(0, np.int64)  # so that there is a part where nothing changes at all
        add(0, nowhere, {name: before[name][nowhere] for name in outcomes})

        every_pair(subject, mode, changes_of(subject, mode, piece), add)
        parts = [part for number in sorted(taken) for part in taken[number]]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    pieces = [
        shelf.piece(f"{mode.name}-rows-{number:05d}", lambda piece=piece: effects(piece))
        for number, piece in _pieces(subject, latents)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _as_float32(arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in arrays.items()}
