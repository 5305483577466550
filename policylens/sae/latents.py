"""An SAE's latents over many rows, kept sparse: by latent, so that a block of latents is found at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.base import SAE


class Latents:
    """The entries that are not 0 of f, (n, positions, m).

    Entries of latent i stand at `starts[i]`..`starts[i + 1]`: `rows` and `positions` say where (in ascending order),
    `values` how much.
    """

    def __init__(self, shape: tuple[int, int, int], starts: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
        self.shape = shape
        self.starts, self.values = starts, values
        self.rows, self.positions = np.divmod(places, shape[1])

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> Latents:
        """From f in batches of rows, (b, positions, m) each. Raises UserError for latents that are not finite."""
        places, latents, values, n, size = [], [], [], 0, (1, 1)
        for batch in batches:
            if not bool(batch.isfinite().all()):
                raise UserError("the SAE gives NaN or infinite latents on these rows; check what it was trained on")
            size = tuple(batch.shape[1:])
            flat = batch.reshape(-1, size[1])
            where, which = flat.nonzero(as_tuple=True)
            values.append(flat[where, which].float().cpu().numpy())
            places.append(where.cpu().numpy() + n * size[0])
            latents.append(which.cpu().numpy())
            n += len(batch)
        if not places:
            raise UserError("there are no rows to intervene on")
        which = np.concatenate(latents)
        order = np.argsort(which, kind="stable")  # rows keep their order within a latent
        starts = np.r_[0, np.cumsum(np.bincount(which, minlength=size[1]))]
        return cls((n, *size), starts, np.concatenate(places)[order], np.concatenate(values)[order])

    def dense(self, latents: np.ndarray) -> np.ndarray:
        """(n, positions, len(latents)) float32."""
        n, positions, _ = self.shape
        block = np.zeros((len(latents), n * positions), np.float32)
        for place, latent in enumerate(latents):
            mine = slice(self.starts[latent], self.starts[latent + 1])
            block[place, self.rows[mine] * positions + self.positions[mine]] = self.values[mine]
        return block.T.reshape(n, positions, len(latents))

    @property
    def totals(self) -> np.ndarray:
        """(m,) float64: the sum of each latent over all rows and positions."""
        sums = np.r_[0.0, np.cumsum(self.values, dtype=np.float64)]
        return sums[self.starts[1:]] - sums[self.starts[:-1]]

    def contributions(self, norms: np.ndarray) -> np.ndarray:
        """(m,) float64: how much each latent adds to the activation over all rows, the sum of |f| times its norm.

        norms: (m,) of the decoder directions.
        """
        size = np.zeros(self.shape[2])
        np.add.at(size, np.repeat(np.arange(self.shape[2]), self.counts), np.abs(self.values))
        return size * norms

    @property
    def counts(self) -> np.ndarray:
        """(m,) int64: entries of each latent."""
        return np.diff(self.starts)

    @property
    def means(self) -> np.ndarray:
        """(m,) float32: mean of each latent over all rows and positions, zeros included."""
        return (self.totals / (self.shape[0] * self.shape[1])).astype(np.float32)

    @property
    def active_means(self) -> np.ndarray:
        """(m,) float32: mean of each latent where it is not 0; 0 for one that always is."""
        return (self.totals / np.maximum(self.counts, 1)).astype(np.float32)

    @property
    def densities(self) -> np.ndarray:
        """(m,) share of the rows in which each latent is not 0 at any position."""
        found = np.zeros(self.shape[2])
        for latent in np.flatnonzero(self.counts):
            mine = self.rows[self.starts[latent] : self.starts[latent + 1]]
            found[latent] = 1 + np.count_nonzero(mine[1:] != mine[:-1])
        return found / self.shape[0]


@torch.no_grad()
def encoded(sae: SAE, x: Tensor) -> Tensor:
    """All latents of activations: (n, *inner, d) -> (n, positions, m)."""
    f = sae.encode(x.reshape(-1, x.shape[-1]).to(sae.W_enc))
    return f.reshape(len(x), -1, f.shape[-1])
