"""comparison.json: what the members of a sweep at one site say about each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from policylens.errors import UserError
from policylens.evaluation.joint import JointMoments
from policylens.evaluation.matching import EXACT, Matching, unit_rows
from policylens.evaluation.siblings import Kin, kin, seed_groups, width_pairs
from policylens.evaluation.splitting import CHILD, Coverage, children, null_splitting, splitting
from policylens.evaluation.stability import (
    RandomDirections,
    directions_agree,
    null_agreement,
    same_partners,
    similarities_agree,
    spread,
)
from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.directions import covariance_of
from policylens.statistics.exchanges import draws_of

ENTRIES_AT_ONCE = 1 << 23


class Member(NamedTuple):
    """An SAE to compare. alive: (a,) positions of the latents that are active in any of the compared rows."""

    sae: SAE
    kin: Kin
    alive: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """Unit decoder directions of the alive latents, float32 (a, d)."""
        return unit_rows(self.sae.W_dec[self.alive].cpu().numpy())


def members_of(saes: Mapping[str, SAE], rows: Tensor) -> dict[str, Member]:
    """Each SAE with its place among the others and its alive latents, over rows (n, d)."""
    found = {}
    for name, sae in saes.items():
        fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=sae.device)
        for _, f in encoded(sae, rows):
            fired |= sae.active(f).any(0)
        alive = torch.nonzero(fired).flatten().cpu().numpy()
        found[name] = Member(sae, kin(sae.cfg.settings, sae.cfg.seed or 0), alive)
    return found


def encoded(*saes_and_rows: Any) -> Iterator[tuple[Any, ...]]:
    """Latents of rows, batch by batch: `encoded(sae, rows)` gives (slice, f), `encoded(a, x, b, y)` (slice, f, g)."""
    saes, rows = saes_and_rows[::2], saes_and_rows[1::2]
    size = max(1, ENTRIES_AT_ONCE // max(sae.cfg.d_sae for sae in saes))
    for start in range(0, len(rows[0]), size):
        piece = slice(start, start + size)
        with torch.no_grad():
            yield (piece, *(sae.encode(x[piece].to(sae.device)) for sae, x in zip(saes, rows, strict=True)))


Space = tuple[str | None, str | None]
"""Where decoder directions are: output site, and how its rows are normalised by numbers of their own."""

Null = Mapping[Space, RandomDirections]
"""Directions to compare with, by where they are."""

Progress = Callable[[list[Any], str], Iterable[Any]]


def silent(items: list[Any], what: str) -> Iterable[Any]:
    """Tell nothing of how far one is."""
    return items


def compare(
    saes: Mapping[str, SAE],
    rows: np.ndarray,
    episodes: np.ndarray,
    seed: int,
    progress: Progress = silent,
    written: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Members, stability across seeds and splitting across widths, as plain JSON values.

    saes: member name -> SAE, all of one site. rows: (n, d) held-out activations, float32. episodes: (n,) of the rows.
    progress: passes on what there is to compare, and may show it. written: (n, d_out) activations of each output site,
    if there are transcoders. A member none of whose latents is active in these rows is described and not compared.
    """
    x = torch.from_numpy(rows)
    members = members_of(saes, x)
    relations = {name: member.kin for name, member in members.items() if len(member.alive)}
    null = {
        space_of(sae): RandomDirections(covariance_of(_given(sae, rows, written)), seed) for sae in one_per_space(saes)
    }
    groups, pairs = seed_groups(relations), width_pairs(relations)
    elsewhere = x[torch.from_numpy(other_rows(episodes, seed))]
    return {
        "members": {name: _described(member) for name, member in members.items()},
        "stability": [
            _stability({name: members[name] for name in group}, x, elsewhere, null)
            for group in progress(groups, "stability")
        ],
        "splitting": [
            {"narrow": narrow, "wide": wide, **_splitting(members[narrow], members[wide], x, elsewhere, null)}
            for narrow, wide in progress(pairs, "splitting")
        ],
    }


def space_of(sae: SAE) -> Space:
    """Where an SAE's decoder directions are."""
    return sae.cfg.output_site, sae.row_norm


def one_per_space(saes: Mapping[str, SAE]) -> Iterable[SAE]:
    """An SAE of every space that there is among some."""
    return {space_of(sae): sae for sae in saes.values()}.values()


def _given(sae: SAE, rows: np.ndarray, written: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows that an SAE's decoder directions add up to."""
    if sae.cfg.output_site:
        return written[sae.cfg.output_site]
    return rows if sae.row_norm is None else sae.normalised(torch.from_numpy(rows)).numpy()


def _described(member: Member) -> dict[str, Any]:
    return {
        "architecture": member.sae.cfg.architecture,
        "latents": member.sae.cfg.d_sae,
        "alive": len(member.alive),
        "seed": member.kin.seed,
    }


def other_rows(episodes: np.ndarray, seed: int) -> np.ndarray:
    """For each row the row whose activation it takes in the null: episodes of equal length exchanged, steps kept.

    Where too few episodes are of equal length, rows are shifted circularly within their episodes.
    """
    grouped = Clusters.of(episodes)
    positions = grouped.sorted(np.arange(len(episodes)))
    try:
        draws = draws_of("permute", positions, grouped, 19, seed)
    except UserError:
        draws = draws_of("circular", positions, grouped, 19, seed)
    return grouped.unsorted(positions[draws.rows(0)])


def _stability(group: Mapping[str, Member], x: Tensor, elsewhere: Tensor, null: Null) -> dict[str, Any]:
    names = list(group)
    pairs = [
        {"first": first, "second": second, **_pair(group[first], group[second], x, elsewhere, null)}
        for number, first in enumerate(names)
        for second in names[number + 1 :]
    ]
    kinds = [kind for kind in ("directions", "activations") if pairs[0][kind] is not None]
    summary = {kind: spread([pair[kind]["observed"] for pair in pairs]) for kind in kinds}
    return {"members": names, "pairs": pairs, "summary": summary}


def _pair(first: Member, second: Member, x: Tensor, elsewhere: Tensor, null: Null) -> dict[str, Any]:
    observed, matching = directions_agree(first.directions, second.directions)
    directions = {
        "observed": observed,
        **null_agreement(first.directions, len(second.alive), null[space_of(first.sae)]),
    }
    activations = None
    if max(first.sae.cfg.d_sae, second.sae.cfg.d_sae) <= EXACT:
        activations = _activations_agree(first, second, x, elsewhere, matching)
    return {"directions": directions, "activations": activations}


def _activations_agree(
    first: Member, second: Member, x: Tensor, elsewhere: Tensor, by_direction: Matching
) -> dict[str, Any]:
    correlations = _correlations(first, second, x, x)
    observed, matching = similarities_agree(correlations)
    permuted, _ = similarities_agree(_correlations(first, second, x, elsewhere))
    return {
        "observed": observed,
        "permuted": permuted,
        "of_direction_partners": same_partners(by_direction, matching, correlations),
    }


def _correlations(first: Member, second: Member, x: Tensor, y: Tensor) -> np.ndarray:
    sums = JointMoments(len(first.alive), len(second.alive))
    a, b = (torch.from_numpy(member.alive).to(member.sae.device) for member in (first, second))
    for _, f, g in encoded(first.sae, x, second.sae, y):
        sums.add(f[:, a], g[:, b])
    return sums.correlations()


def _splitting(parent: Member, child: Member, x: Tensor, elsewhere: Tensor, null: Null) -> dict[str, Any]:
    found = children(parent.directions, child.directions)
    counts = np.diff(found.indptr)
    seen = {
        "observed": _coverage(parent, child, found, x, x),
        "permuted": _coverage(parent, child, found, x, elsewhere),
    }
    kinds = {"one": counts == 1, "split": counts > 1}
    coverage = {name: {kind: of.share(which) for kind, which in kinds.items()} for name, of in seen.items()}
    return {
        "latents": [parent.sae.cfg.d_sae, child.sae.cfg.d_sae],
        "observed": splitting(parent.directions, child.directions),
        **null_splitting(parent.directions, len(child.alive), null[space_of(parent.sae)]),
        "coverage": {"threshold": CHILD, **coverage},
    }


def _coverage(parent: Member, child: Member, found: csr_array, x: Tensor, y: Tensor) -> Coverage:
    coverage = Coverage(found)
    for _, f, g in encoded(parent.sae, x, child.sae, y):
        above, below = parent.sae.active(f)[:, parent.alive], child.sae.active(g)[:, child.alive]
        coverage.add(above.cpu().numpy(), below.cpu().numpy())
    return coverage
