"""From a block of config.yaml and a capture's rows to the candidates of a steering study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.errors import UserError
from policylens.policies.sites import Site
from policylens.sae.activations import flattened
from policylens.sae.base import SAE
from policylens.sae.latents import Latents
from policylens.steering.candidate import Candidate
from policylens.steering.kinds import spelt_out
from policylens.steering.moves import move_of
from policylens.steering.targets import (
    Target,
    contributing,
    direction_target,
    latents_of,
    latents_target,
    units_target,
)
from policylens.stores.files import read_tensors
from policylens.stores.foreign import read_arrays

Labels = Mapping[tuple[str, str], np.ndarray]
"""(label set, label) -> (rows,) of the reference rows."""


@dataclass(frozen=True)
class Reference:
    """What targets are scaled by: activations (rows, *inner, d) per site, and labels of the same rows."""

    activations: Mapping[str, np.ndarray]
    labels: Labels


Clusters = Mapping[str, Mapping[str, Sequence[int]]]
"""Name of a cluster of units -> site -> their numbers."""


def check_steerable(sites: Mapping[str, Site], steered: Sequence[str]) -> None:
    """UserError for a site that the policy lacks, or that nothing reads: changing it would change nothing.

    The config says so too, but only where it can see the checkpoint's sites.
    """
    for name in steered:
        if name not in sites:
            raise UserError(f"the policy has no site {name!r}; it has: {', '.join(sites)}")
        if sites[name].dead_end:
            raise UserError(f"site {name!r} cannot be steered: {sites[name].description}; choose an earlier site")


def candidates(
    block: Mapping[str, Any],
    saes: Mapping[str, SAE],
    reference: Reference,
    device: str,
    clusters: Clusters | None = None,
) -> list[Candidate]:
    """Every target with every move. block: `steering` of config.yaml; saes: by site; clusters: those that it names.

    Raises UserError for a target that cannot be steered, two of one name, and none at all.
    """
    moves = [move_of(single) for single in spelt_out(block["moves"])]
    targets: list[tuple[Target, ...]] = [(one,) for one in _targets(block, saes, reference, device)]
    targets += [
        tuple(units_target(name, site, units, reference.activations[site], device) for site, units in own.items())
        for name, own in (clusters or {}).items()
    ]
    names = [parts[0].name for parts in targets]
    if not names:
        raise UserError("steering: there is nothing to steer; name latents, groups, directions, units or clusters")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"steering: two things to steer are both called {twice[0]!r}; give one of them another name")
    kinds = tuple(block.get("tokens", ()))
    return [Candidate(parts[0], move, parts[1:], kinds) for parts in targets for move in moves]


def _targets(block: Mapping[str, Any], saes: Mapping[str, SAE], reference: Reference, device: str) -> Iterator[Target]:
    groups = block.get("groups", {})
    for site, sae in saes.items():
        rows = latents_of(sae, reference.activations[site])
        for latent in _latents(block.get("latents", 0), site, sae, rows):
            yield latents_target(f"{site}-{latent}", site, sae, [latent], rows)
        for name, group in groups.items():
            if group["site"] == site:
                yield latents_target(name, site, sae, group["latents"], rows)
    for name, own in block.get("units", {}).items():
        yield units_target(name, own["site"], own["units"], reference.activations[own["site"]], device)
    for name, own in block.get("directions", {}).items():
        activations = reference.activations[own["site"]]
        try:
            vector = _from_file(own) if "file" in own else contrast(own, activations, reference.labels)
            yield direction_target(name, own["site"], vector, activations, device)
        except UserError as error:
            raise UserError(f"steering: directions.{name}: {own.get('file', own.get('label'))}: {error}") from None


def _latents(wanted: int | Mapping[str, list[int]], site: str, sae: SAE, rows: Latents) -> list[int]:
    """A number stands for so many that contribute most, 0 for all; a mapping lists them, site by site."""
    return contributing(sae, rows, wanted) if isinstance(wanted, int) else list(wanted.get(site, []))


def contrast(own: Mapping[str, Any], activations: np.ndarray, labels: Labels) -> np.ndarray:
    """Mean activation where a label has one of the values `positive` less that where it has one of `negative`, (d,).

    Raises UserError where there are no such rows.
    """
    values = labels[own["labels"], own["label"]]
    if values.ndim > 1:
        raise UserError(f"the label has {values.shape[1:]} values per row; one is needed")
    means = []
    for side in ("positive", "negative"):
        chosen = np.isin(values, own[side])
        if not chosen.any():
            raise UserError(f"in none of the reference rows is the label one of {own[side]}; give others")
        means.append(flattened(activations[chosen]).mean(axis=0, dtype=np.float64))
    return means[0] - means[1]


def _from_file(own: Mapping[str, Any]) -> np.ndarray:
    arrays, wanted = _arrays(Path(own["file"])), own.get("array")
    if wanted is None and len(arrays) == 1:
        return np.squeeze(next(iter(arrays.values())))
    if wanted not in arrays:
        asked = "which array is the direction?" if wanted is None else f"there is no array {wanted!r};"
        raise UserError(f"{asked} array: one of {', '.join(sorted(arrays))}")
    return np.squeeze(arrays[wanted])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a user's file, or of a block of directions (.safetensors)."""
    if path.suffix != ".safetensors":
        return read_arrays(path)
    return {name: tensor.float().numpy() for name, tensor in read_tensors(path).items()}
