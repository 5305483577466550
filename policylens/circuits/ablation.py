"""Everything outside a circuit changed at once, at all sites of one pass.

At every site, in the order of the pass, the activation x, which changes before it may have moved, is encoded: f. The
latents outside the circuit are then moved from f to their reference r,

    x' = x + sum over i outside of (r_i - f_i) W_dec,i

(times the spread of x's rows, for an SAE with `row_norm`)
while those inside keep what they have become. The SAE's error, x less its reconstruction, stays in x' as it then is;
without it x' is the reconstruction moved likewise. With every latent inside, x' = x, and nothing changes.

r is 0 ("zero"), the latent's mean in unchanged passes over the reference rows ("mean"), or its value in an unchanged
pass of a row of another episode ("resample"); at later sites too: never what changes upstream make of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policylens.circuits.outputs import Output
from policylens.errors import UserError
from policylens.policies.protocol import Batch, Edit, Pass, Policy
from policylens.progress import progress
from policylens.sae.base import SAE
from policylens.sae.latents import encoded

MODES = ("mean", "zero", "resample")

Masks = Mapping[str, np.ndarray]
"""A circuit: per site (m,) bool, whether each latent is inside."""


@dataclass(frozen=True)
class Ablation:
    """What is outside becomes what.

    saes: by site, in the order of the pass. mode: of MODES. keep_error: of the SAEs. means: site -> (m,) references of
    "mean".
    """

    policy: Policy
    saes: Mapping[str, SAE]
    mode: str
    keep_error: bool
    means: Mapping[str, np.ndarray]

    def distances(
        self, output: Output, batches: Sequence[Batch], donors: np.ndarray, circuits: Sequence[Masks]
    ) -> np.ndarray:
        """Change of the output in every row for every circuit, float64 (circuits, n), from the unchanged pass.

        batches: of the rows in their order. donors: (n,) for each row one of another episode. Batches are run through
        one after the other, each with all circuits: memory is that of a batch and of the result, and for "resample" of
        the sites' activations.
        """
        given = self._given(batches) if self.mode == "resample" else None
        found, start = [], 0
        for batch in batches:
            base = self.unchanged(batch)
            count = len(next(iter(base.reads.values())))
            if not start:
                output.check(base)
            rows = donors[start : start + count]
            references = {site: self._reference(site, given, rows) for site in self.saes}
            first = next(iter(self.saes))
            known = {first: encoded(self.saes[first], base.reads[first])}  # no change comes before it
            what = f"rows {start} to {start + count}"
            each = progress(circuits, len(circuits), what, "circuits")
            passes = (self._changed(base, masks, references, known) for masks in each)
            found.append(np.stack([output.distance(base, after) for after in passes]))
            start += count
        return np.concatenate(found, axis=1)

    @torch.no_grad()
    def unchanged(self, batch: Batch) -> Pass:
        """A pass as it is, with the sites read."""
        return self.policy.run(batch, read=list(self.saes))

    @torch.no_grad()
    def _changed(self, base: Pass, masks: Masks, references: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> Pass:
        """known: latents of sites that no change comes before."""
        edits = {site: self._edit(site, masks[site], references[site], known.get(site)) for site in self.saes}
        return self.policy.run(resume=(next(iter(self.saes)), base.cache), edit=edits)

    def _edit(self, site: str, inside: np.ndarray, reference: Tensor, known: Tensor | None) -> Edit:
        sae = self.saes[site]
        outside = torch.from_numpy(~inside).to(sae.device)

        def edit(x: Tensor) -> Tensor:
            f = encoded(sae, x) if known is None else known
            rows = x.to(f.dtype).reshape(*f.shape[:2], x.shape[-1])
            moved = sae.added((reference - f) * outside, rows)
            base = rows if self.keep_error else sae.reconstruct(f.reshape(-1, f.shape[-1]), rows.flatten(0, 1))
            return (base.reshape(x.shape) + moved.reshape(x.shape)).to(x.dtype)

        return edit

    def _reference(self, site: str, given: Mapping[str, Tensor] | None, rows: np.ndarray) -> Tensor:
        """(b or 1, positions or 1, m)."""
        sae = self.saes[site]
        if given is not None:
            return encoded(sae, given[site][torch.from_numpy(rows)])
        means = self.means[site] if self.mode == "mean" else np.zeros(sae.cfg.d_sae)
        return torch.from_numpy(means).to(sae.W_dec)[None, None]

    def _given(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """The sites' activations in unchanged passes over all rows."""
        reads = [self.unchanged(batch).reads for batch in batches]
        return {site: torch.cat([found[site] for found in reads]) for site in self.saes}


def in_order(policy: Policy, saes: Mapping[str, SAE], batch: Batch) -> dict[str, SAE]:
    """The SAEs in the order in which a pass comes by their sites; UserError for a transcoder, or an unknown site."""
    for site, sae in saes.items():
        if site not in policy.sites:
            raise UserError(f"the policy has no site {site!r}; it has {', '.join(policy.sites)}")
        if sae.cfg.output_site is not None:
            raise UserError(f"the SAE at {site!r} is a transcoder: its latents are no part of the site's activation")
    with torch.no_grad():
        return {site: saes[site] for site in policy.run(batch, read=list(saes)).reads}
