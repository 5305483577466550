"""A site whose latents are correlated, split by split: its capture, its SAE, and the inputs of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policylens.correlations.held_out import HeldOut, held_out
from policylens.correlations.inputs import Found, read_inputs
from policylens.correlations.rows import SiteRows, site_rows
from policylens.correlations.sample import Sample
from policylens.sae.activations import whole_episodes
from policylens.sae.base import SAE
from policylens.statistics.resampling import Resampling
from policylens.stores.splits import SPLITS
from policylens.stores.tables import Table

CHOSEN_ON, SCORED_ON = "validation", "test"


@dataclass(frozen=True)
class Site:
    """What is correlated. rows: at most so many of a split, in whole episodes (0: all); seed: of which."""

    capture: Table
    name: str
    sae: SAE
    inputs: Sequence[Found]
    rows: int
    seed: int

    def sample(self, split: str) -> tuple[Sample, SiteRows]:
        """The rows of a split, episode by episode, and what else is known of the site in them."""
        numbers, episodes = whole_episodes(self.capture, split, self.rows, self.seed)
        own = site_rows(self.capture, self.name, self.sae, numbers)
        sides = {"latents": own.latents, "units": own.units}
        return Sample(read_inputs(self.inputs, numbers), sides, episodes), own

    def held_out(self, split: str, sample: Sample, kept: np.ndarray) -> HeldOut | str:
        """Candidates chosen on validation and scored on test, or why not. kept: places of the inputs that count.

        split: the study's own; its sample is used again where it is one of the two.
        """
        if split == "all":
            return "split is all: the SAE may have been trained on any of these rows"
        for one in (CHOSEN_ON, SCORED_ON):
            if self._episodes(one) < 2:
                return f"the split {one} has fewer than 2 episodes"
        found = (sample if one == split else self.sample(one)[0] for one in (CHOSEN_ON, SCORED_ON))
        chosen, scored = (Sample(own.inputs[:, kept], own.sides, own.episodes) for own in found)
        result = held_out(chosen, scored, Resampling(self.seed))
        return result or "no input varies on both splits, or no latent does on validation"

    def _episodes(self, split: str) -> int:
        of_split = self.capture.coordinate("split") == SPLITS.index(split)
        return len(np.unique(self.capture.coordinate("episode")[of_split]))
