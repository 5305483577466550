"""Which rows are looked at, and what a site holds in them: latents and raw units, one number per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from policylens.errors import UserError
from policylens.sae.activations import read_activations
from policylens.sae.base import SAE
from policylens.sae.latents import Latents, encoded
from policylens.stores.tables import Table

BATCH_ROWS = 2048


@dataclass(frozen=True)
class SiteRows:
    """A site over some rows, one number per row: where rows have positions, the mean over them.

    latents: sparse float64 (n, m). units: float64 (n, d), the activation's own. densities: (m,) share of the rows in
    which a latent is not 0 at any position. active_rows: (m,) how many rows these are. positions: per row. l0: latents
    that are not 0 per row and position.
    """

    latents: scipy.sparse.csc_array
    units: np.ndarray
    densities: np.ndarray
    positions: int
    l0: float

    @property
    def active_rows(self) -> np.ndarray:
        """(m,) int64: rows in which a latent is not 0 at any position."""
        return np.rint(self.densities * self.latents.shape[0]).astype(np.int64)


def site_rows(capture: Table, site: str, sae: SAE, rows: np.ndarray) -> SiteRows:
    """Read a site's activations at some rows and encode them. UserError if the SAE takes another width."""
    column = capture.array(site)
    if column.shape[-1] != sae.cfg.d_in:
        raise UserError(
            f"the SAE takes {sae.cfg.d_in} units, the site {site!r} of {capture.folder} has {column.shape[-1]}; name "
            "an SAE that was trained there"
        )
    units: list[np.ndarray] = []

    def latents(piece: np.ndarray) -> torch.Tensor:
        x = read_activations(column, piece)
        units.append(x.reshape(len(x), -1, x.shape[-1]).mean(1, dtype=np.float64))
        return encoded(sae, torch.from_numpy(x))

    pieces = (rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS))
    found = Latents.of(latents(piece) for piece in pieces)
    n, positions, m = found.shape
    entries = (found.values.astype(np.float64), found.rows, found.starts)
    values = scipy.sparse.csc_array(entries, shape=(n, m), copy=True)  # positions of a row are summed in place
    values.sum_duplicates()
    values.data /= positions
    values.eliminate_zeros()
    l0 = float(found.counts.sum() / (n * positions))
    return SiteRows(values, np.concatenate(units), found.densities, positions, l0)
