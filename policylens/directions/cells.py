"""Sums of activations and latents over cells: all rows of one concept, one episode and one instruction.

Every direction here is linear in these sums, so that halves, folds, permutations and resamples of episodes need no
second look at the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.sae.row_kinds import check_has_directions
from policylens.stores.files import read_tensors, write_tensors

ACTIVATION, LATENT, RESIDUAL, BASELINE = "activation", "latent", "residual", "baseline"
"""What is summed: activations at the site; latents there; latents through the decoder; activations at another site."""
ROWS_AT_ONCE = 512
KEYS = ("positive", "episode", "text", "count")


@dataclass(frozen=True)
class Cells:
    """c cells. positive: (c,) bool. episode, text: (c,) int64, -1 where not known. count: (c,) int64, of rows.

    sums: name -> (c, width) float64.
    """

    positive: np.ndarray
    episode: np.ndarray
    text: np.ndarray
    count: np.ndarray
    sums: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.count)

    @property
    def known(self) -> bool:
        """Whether it is known which episodes the rows are of."""
        return bool((self.episode >= 0).all())

    def units(self) -> np.ndarray:
        """(c,) number of the unit of each cell, from 0: cells of one episode and one concept are one unit."""
        keys = np.stack([self.episode, self.positive.astype(np.int64)])
        return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)

    def gram(self, name: str) -> np.ndarray:
        """(c, c) float64 inner products of the sums, after the mean over all rows has been taken off each row.

        Differences of means do not feel that shift, and lose fewer digits.
        """
        mean = self.sums[name].sum(0) / self.count.sum()
        centred = self.sums[name] - self.count[:, None] * mean
        return centred @ centred.T

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        own = {key: torch.from_numpy(np.ascontiguousarray(getattr(self, key))) for key in KEYS}
        write_tensors(path, own | {f"sum.{name}": torch.from_numpy(values) for name, values in self.sums.items()})

    @classmethod
    def load(cls, path: Path) -> Cells:
        """Read what :meth:`save` wrote."""
        found = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
        sums = {name[4:]: values for name, values in found.items() if name.startswith("sum.")}
        return cls(*(found[key] for key in KEYS), sums)


@dataclass(frozen=True)
class Side:
    """Rows of one concept. episodes, texts: (n,) int64. reading: site -> activations (b, *inner, d) at places.

    Every position of a row counts as a row.
    """

    episodes: np.ndarray
    texts: np.ndarray
    reading: Mapping[str, Callable[[np.ndarray], np.ndarray]]


def gather(
    sides: Mapping[bool, Side], site: str, sae: SAE | None = None, baseline: str | None = None
) -> tuple[Cells, np.ndarray | None]:
    """Sums over all rows of both concepts, and in how many rows (and positions) each latent is not 0, (m,) int64.

    sides: True: the positive concept, False: the negative. baseline: another site, summed too.
    """
    if sae is not None:
        check_fixed_directions(sae)
    parts, active = [], None
    for positive, side in sides.items():
        keys, cell = np.unique(np.stack([side.episodes, side.texts]), axis=1, return_inverse=True)
        sums, count = Sums(keys.shape[1]), np.zeros(keys.shape[1], np.int64)
        for name, places, x in _pieces(side, [site, *([baseline] if baseline else [])]):
            rows = torch.from_numpy(np.repeat(cell.reshape(-1)[places], len(x) // len(places)))
            if name == baseline:
                sums.add(BASELINE, rows, x)
                continue
            sums.add(ACTIVATION, rows, x)
            count += np.bincount(rows.numpy(), minlength=len(count))
            if sae is not None:
                f = latents_of(sae, x)
                sums.add(LATENT, rows, f)
                alive = (f != 0).sum(0).numpy()
                active = alive if active is None else active + alive
        parts.append(Cells(np.full(len(count), positive), keys[0], keys[1], count, sums.totals))
    cells = _joined(parts)
    if sae is not None:
        decoder = sae.W_dec.detach().cpu().double().numpy()
        cells.sums[RESIDUAL] = cells.sums[LATENT] @ decoder
    return cells, active


def check_fixed_directions(sae: SAE) -> None:
    """UserError for an SAE whose latents add another amount to every row: they have no direction in the activation."""
    check_has_directions(sae.row_norm, f"the SAE at {sae.cfg.site!r}")


def _pieces(side: Side, sites: list[str]) -> Iterator[tuple[str, np.ndarray, Tensor]]:
    """(site, places of the rows, their activations (places * positions, d)), site after site within a piece of rows."""
    for start in range(0, len(side.episodes), ROWS_AT_ONCE):
        places = np.arange(start, min(start + ROWS_AT_ONCE, len(side.episodes)))
        for site in sites:
            values = np.asarray(side.reading[site](places), np.float32)
            yield site, places, torch.from_numpy(np.ascontiguousarray(values)).reshape(-1, values.shape[-1])


@torch.no_grad()
def latents_of(sae: SAE, x: Tensor) -> Tensor:
    """Latents (n, m) float32 of activations (n, d), on the CPU; UserError where the widths differ."""
    if x.shape[1] != sae.cfg.d_in:
        raise UserError(
            f"the SAE takes activations {sae.cfg.d_in} wide, these rows are {x.shape[1]} wide; give its site"
        )
    return sae.encode(x.to(sae.W_enc)).float().cpu()


class Sums:
    """Sums of rows by cell, added up in float64. totals: name -> (cells, width)."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.totals: dict[str, np.ndarray] = {}

    def add(self, name: str, cell: Tensor, rows: Tensor) -> None:
        """cell: (n,) int64. rows: (n, width)."""
        if name not in self.totals:
            self.totals[name] = np.zeros((self.cells, rows.shape[1]))
        present, place = torch.unique(cell, return_inverse=True)
        # A few rows at once are added in float32 by a product, which is fast; pieces are added in float64.
        which = torch.nn.functional.one_hot(place, len(present)).T.to(rows)
        self.totals[name][present.numpy()] += (which @ rows).double().numpy()


def _joined(parts: list[Cells]) -> Cells:
    columns = [np.concatenate([getattr(part, key) for part in parts]) for key in KEYS]
    names = parts[0].sums
    for name in names:
        widths = {part.sums[name].shape[1] for part in parts}
        if len(widths) > 1:
            raise UserError(
                f"rows of the two concepts are {' and '.join(map(str, sorted(widths)))} wide; give one site's"
            )
    return Cells(*columns, {name: np.concatenate([part.sums[name] for part in parts]) for name in names})
