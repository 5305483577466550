"""Which latents make a circuit: those that change the output most when they alone are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policylens.circuits.ablation import Masks
from policylens.circuits.outputs import Output
from policylens.interventions.exact import block_size, measure
from policylens.interventions.modes import Mode
from policylens.interventions.study import LATENTS_PER_PIECE
from policylens.interventions.subject import Subject
from policylens.progress import progress


@dataclass(frozen=True)
class Candidates:
    """All latents that are ever active on the rows of selection, site after site in the order of the pass.

    sites: (c,) number of the site of each. latents: (c,) their numbers. effects: (c,) mean |effect| on the output of
    changing each alone. activity: (c,) mean of |f| times the decoder's norm. widths: site -> latents of its SAE.
    means: site -> (m,) mean of each latent.
    """

    sites: np.ndarray
    latents: np.ndarray
    effects: np.ndarray
    activity: np.ndarray
    widths: Mapping[str, int]
    means: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, subjects: Sequence[Subject], mode: Mode, output: Output) -> Candidates:
        """subjects: one per site, in the order of the pass, on the same rows."""
        sites, latents, effects, activity = [], [], [], []
        for number, subject in enumerate(subjects):
            alive = np.flatnonzero(subject.latents.counts)
            sites.append(np.full(len(alive), number))
            latents.append(alive)
            effects.append(_effects(subject, mode, alive, output))
            activity.append(activity_of(subject)[alive])
        arrays = (np.concatenate(part) for part in (sites, latents, effects, activity))
        widths = {subject.site: subject.latents.shape[2] for subject in subjects}
        return cls(*arrays, widths, {subject.site: subject.latents.means for subject in subjects})

    def __len__(self) -> int:
        """How many there are."""
        return len(self.latents)

    def strongest(self, size: int) -> np.ndarray:
        """Places of the `size` candidates with the largest effects, the largest first."""
        return np.argsort(-self.effects, kind="stable")[:size]

    def busiest(self, size: int) -> np.ndarray:
        """Places of the `size` candidates that contribute most to their activations."""
        return np.argsort(-self.activity, kind="stable")[:size]

    def drawn_like(self, places: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
        """`count` random sets with as many candidates of each site as `places` has."""
        rng = np.random.default_rng([seed, len(places)])
        wanted = np.bincount(self.sites[places], minlength=len(self.widths))
        pools = [np.flatnonzero(self.sites == site) for site in range(len(self.widths))]
        draws = [
            [rng.choice(pool, size, replace=False) for pool, size in zip(pools, wanted, strict=True)]
            for _ in range(count)
        ]
        return [np.concatenate(parts) for parts in draws]

    def masks(self, places: np.ndarray, inverted: bool = False) -> Masks:
        """A set as masks per site; inverted: everything but the set (latents that are never active included)."""
        found = {}
        for number, (site, width) in enumerate(self.widths.items()):
            inside = np.zeros(width, bool)
            inside[self.latents[places[self.sites[places] == number]]] = True
            found[site] = ~inside if inverted else inside
        return found

    def everything(self, inside: bool) -> Masks:
        """All latents inside, or none."""
        return {site: np.full(width, inside) for site, width in self.widths.items()}


def mean_sizes(subject: Subject) -> np.ndarray:
    """(m,) mean over rows and positions of |f|."""
    found = subject.latents
    sums = np.zeros(found.shape[2])
    np.add.at(sums, np.repeat(np.arange(found.shape[2]), found.counts), np.abs(found.values))
    return sums / (found.shape[0] * found.shape[1])


def activity_of(subject: Subject) -> np.ndarray:
    """(m,) mean over rows and positions of |f| ||W_dec||: what each latent contributes to its activation."""
    return mean_sizes(subject) * subject.sae.W_dec.norm(dim=1).double().cpu().numpy()


def in_pieces(subject: Subject, latents: np.ndarray) -> list[np.ndarray]:
    """Latents in pieces whose effects are measured at once."""
    size = min(LATENTS_PER_PIECE, block_size(subject))
    return [latents[start : start + size] for start in range(0, len(latents), size)]


def _effects(subject: Subject, mode: Mode, latents: np.ndarray, output: Output) -> np.ndarray:
    pieces = in_pieces(subject, latents)
    found = [
        output.effects(measure(subject, mode, piece)[0], subject.n_rows)
        for piece in progress(pieces, len(pieces), f"{subject.site}: effects of single latents", "pieces")
    ]
    return np.concatenate(found) if found else np.zeros(0)
