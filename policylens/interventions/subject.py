"""A policy, a site of it, an SAE there and some rows: everything that interventions at that site start from."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.interventions.outcomes import Outcomes, as_arrays, joined, joined_heads
from policylens.interventions.recurrent import Walk, row_order, unroll
from policylens.interventions.sums import Episodes
from policylens.policies.heads import Heads
from policylens.policies.protocol import Batch, Carry, Pass, Policy, carry_of_rows, joined_carries
from policylens.sae.base import SAE
from policylens.sae.latents import Latents, encoded

BATCH_ROWS = 2048


@dataclass(frozen=True)
class Baseline:
    """A pass without an intervention, of all rows.

    activation: (n, *inner, d) what latents are changed in. start: (n, *inner, d') the activation from which passes go
    on. heads: of the pass. outcomes: name -> (n, units) float32.
    """

    activation: Tensor
    start: Tensor
    heads: Heads
    outcomes: dict[str, np.ndarray]

    def rows(self, order: np.ndarray) -> Baseline:
        """The same with rows in another order, (n,)."""
        index = torch.from_numpy(order)
        outcomes = {name: values[order] for name, values in self.outcomes.items()}
        return Baseline(self.activation[index], self.start[index], self.heads.rows(index), outcomes)


class Subject:
    """What is intervened on.

    site: its name. sae: there. outcomes: what is measured. episodes: of the rows. latents: f of all rows. donors: (n,)
    for each row one of another episode. start: the site from which passes go on: a later one if that is an affine
    function of this one and all that depends on it (`Policy.affine`).
    """

    def __init__(
        self,
        policy: Policy,
        site: str,
        saes: Mapping[str, SAE],
        batches: Iterable[Batch],
        episodes: np.ndarray,
        donors: np.ndarray,
    ) -> None:
        """saes: by site, the site's own among them. batches: of the rows in the order of `episodes`, (n,) ascending."""
        self.policy, self.site, self.sae = policy, site, saes[site]
        _check(policy, site, self.sae)
        self.episodes, self.donors = Episodes.of(episodes), donors
        # A recurrent policy hands the activation on in its state too: nothing is all that depends on it.
        self.start, self._onward = (None if policy.recurrent else policy.affine(site)) or (site, None)
        self._passed = self._run(batches, saes)
        if len(self._passed.activation) != len(episodes):
            raise UserError(f"{len(self._passed.activation)} rows of observations for {len(episodes)} rows of episodes")
        self.latents = Latents.of(encoded(self.sae, piece) for piece in self._passed.activation.split(BATCH_ROWS))
        self._spliced: Baseline | None = None

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.episodes.n_rows

    @property
    def activation(self) -> Tensor:
        """(n, *inner, d) the site's own."""
        return self._passed.activation

    @functools.cached_property
    def spread(self) -> Tensor | None:
        """(n, positions) on the CPU: what a latent's unit is worth in each row; None for 1, without `row_norm`."""
        found = self.sae.spread(self.activation.to(self.sae.W_enc.dtype))
        return None if found is None else found.reshape(self.n_rows, -1).cpu()

    def baseline(self, keep_error: bool) -> Baseline:
        """The pass as it is or, without the SAE's error, the pass with the SAE's reconstruction in its place."""
        if keep_error:
            return self._passed
        if self.recurrent:
            raise UserError("the policy is recurrent: its interventions keep the SAE's error; set keep_error: true")
        if self._spliced is None:
            self._spliced = self._reconstructed()
        return self._spliced

    def along(self, directions: Tensor) -> Tensor:
        """Directions (k, d) of the site as directions (k, d') of the place from which passes go on."""
        directions = directions.to(self.activation.dtype)
        return directions if self._onward is None else directions @ self._onward

    def resumed(self, site: str, rows: Tensor, activation: Tensor, read: Sequence[str]) -> Pass:
        """The rest of the network over some rows, from another activation (b, *inner, d) at a site on.

        site: the subject's own, or `start`.
        """
        rest = carry_of_rows(self._rest[site], rows, self.n_rows)
        carry = {**rest, self.policy.entry(site): activation}
        return self.policy.run(resume=(site, {site: carry}), read=read)

    @property
    def recurrent(self) -> bool:
        """Whether what is coupled is the rest of an episode."""
        return self.policy.recurrent

    @torch.no_grad()
    def _run(self, batches: Iterable[Batch], saes: Mapping[str, SAE]) -> Baseline:
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            raise UserError("there are no rows to intervene on")
        # Only a pass tells in which order sites are computed, where a policy's inside is not known.
        order = list(self.policy.run(first, read=[name for name in saes if name in self.policy.sites]).reads)
        self.outcomes = Outcomes(self.policy, order, self.site, saes)
        counts: list[int] = []
        rests: dict[str, list[Carry]] = {self.site: [], self.start: []}
        if self.recurrent:
            return self._unroll(chain([first], batches))
        baseline = self._baseline(self._passes(chain([first], batches), counts, rests))
        self._rest = {site: joined_carries(parts, counts) for site, parts in rests.items()}
        return baseline

    def _unroll(self, batches: Iterable[Batch]) -> Baseline:
        """The pass of a recurrent policy, episode by episode from the start."""
        pieces = list(batches)
        batch = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        walk = Walk(self.episodes.first, self.episodes.lengths)
        self.unrolled, passes = unroll(self.policy, batch, walk, [self.site, *self.outcomes.sites])
        found = self._baseline((one.reads[self.site], one) for one in passes)
        return found.rows(row_order(walk))

    def _passes(
        self, batches: Iterable[Batch], counts: list[int], rests: Mapping[str, list[Carry]]
    ) -> Iterator[tuple[Tensor, Pass]]:
        """The site's activation and the pass of each batch; keeps rows' counts and, per site of `rests`, the carry."""
        for batch in batches:
            found = self.policy.run(batch, read=[self.site, self.start, *self.outcomes.sites])
            counts.append(len(found.reads[self.site]))
            for site, parts in rests.items():
                parts.append(_without(found.cache[site], self.policy.entry(site)))
            yield found.reads[self.site], found

    @torch.no_grad()
    def _reconstructed(self) -> Baseline:
        return self._baseline(self._spliced_passes())

    def _spliced_passes(self) -> Iterator[tuple[Tensor, Pass]]:
        """The SAE's reconstruction and the pass with it, of each batch of rows."""
        for rows in torch.arange(self.n_rows).split(BATCH_ROWS):
            before = self.activation[rows]
            x = self.sae(before.to(self.sae.W_enc.dtype)).to(before.dtype).reshape(before.shape)
            yield x, self.resumed(self.site, rows, x, [self.start, *self.outcomes.sites])

    def _baseline(self, passes: Iterable[tuple[Tensor, Pass]]) -> Baseline:
        """Of passes in turn, with the site's activation in each: of their other reads no more than one is in memory."""
        activations, starts, outcomes, heads = [], [], [], []
        for activation, found in passes:
            activations.append(activation)
            if self.start != self.site:
                starts.append(found.reads[self.start])
            outcomes.append(as_arrays(self.outcomes.of(found, found.heads)))
            heads.append(found.heads)
        activation = torch.cat(activations)
        start = torch.cat(starts) if starts else activation
        return Baseline(activation, start, joined_heads(heads), joined(outcomes))


def _without(carry: Mapping[str, Any], entry: str) -> Carry:
    return {name: part for name, part in carry.items() if name != entry}


def _check(policy: Policy, site: str, sae: SAE) -> None:
    if site not in policy.sites:
        raise UserError(f"the policy has no site {site!r}; it has {', '.join(policy.sites)}")
    if sae.cfg.output_site is not None:
        raise UserError(
            f"the SAE at {site!r} is a transcoder into {sae.cfg.output_site!r}: it has no latents to change"
        )
    if sae.cfg.d_in != policy.sites[site].width:
        raise UserError(
            f"the SAE takes {sae.cfg.d_in} units, the policy's site {site!r} has {policy.sites[site].width}"
        )
    if sae.cfg.site not in (None, site):
        raise UserError(f"the SAE is of the site {sae.cfg.site!r}, not of {site!r}; name one that was trained there")
    weights = policy.record["weights"]["sha256"]
    if sae.cfg.checkpoint_sha256 not in (None, weights):
        raise UserError(f"the SAE at {site!r} was trained on another checkpoint's activations; use that checkpoint")
