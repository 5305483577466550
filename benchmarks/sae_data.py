"""Activations to train on: synthetic superposition, or a site of a capture; normalised alike for all tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from policylens.errors import UserError

ACTIVE = 16
FEATURES_PER_DIMENSION = 4
FREQUENCY_DECAY, SPECTRUM_DECAY = 1.0, 0.6
NOISE = 0.05
CHUNK_ROWS = 16_384
SEED = 20_240_604


def superposition(rows: int, width: int, seed: int = SEED) -> Tensor:
    """(rows, width) float32: sparse sums of more directions than dimensions, and a little noise.

    A row is the sum of 16 draws among 4 * width unit directions. Frequencies fall like 1 / rank, magnitudes are
    exponential; the directions' own covariance has eigenvalues that fall like rank^-0.6, so that the activations'
    spectrum falls like that of networks and not like white noise.
    """
    generator = torch.Generator().manual_seed(seed)
    count = FEATURES_PER_DIMENSION * width
    spectrum = torch.arange(1, width + 1, dtype=torch.float32) ** (-SPECTRUM_DECAY / 2)
    directions = torch.randn(count, width, generator=generator) * spectrum
    directions /= directions.norm(dim=1, keepdim=True)
    frequencies = torch.arange(1, count + 1, dtype=torch.float32) ** -FREQUENCY_DECAY
    found = torch.empty(rows, width)
    for chunk in found.split(CHUNK_ROWS):
        drawn = torch.multinomial(frequencies, len(chunk) * ACTIVE, replacement=True, generator=generator)
        magnitudes = torch.empty(len(chunk), ACTIVE).exponential_(generator=generator)
        sums = embedding_bag(drawn.view(len(chunk), ACTIVE), directions, mode="sum", per_sample_weights=magnitudes)
        noise = torch.randn(chunk.shape, generator=generator)
        torch.add(sums, noise, alpha=NOISE, out=chunk)
    return found


def captured(folder: Path, site: str, rows: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Training rows and held-out rows of a capture's site: its train split and its validation split."""
    from policylens.sae.activations import flattened, read_activations, rows_of_split
    from policylens.stores.tables import open_table

    table = open_table(folder)
    parts = []
    for split, limit in (("train", rows), ("validation", held_out)):
        numbers = rows_of_split(table, split, limit).numbers
        parts.append(torch.from_numpy(flattened(read_activations(table.array(site), numbers))))
    return parts[0], parts[1]


def prepare(folder: Path, train: Tensor, held_out: Tensor) -> None:
    """Write both as train.npy and held_out.npy, centred and scaled by the training rows: the mean norm is sqrt(d)."""
    if not len(train) or not len(held_out):
        raise UserError("activations: there are no rows to train on or none to evaluate on")
    mean = train.mean(0)
    scale = train.shape[1] ** 0.5 / (train - mean).norm(dim=1).mean()
    for name, rows in (("train", train), ("held_out", held_out)):
        np.save(folder / f"{name}.npy", rows.sub(mean).mul_(scale).numpy())


def load(folder: Path, name: str) -> Tensor:
    """Rows that `prepare` wrote, resident."""
    return torch.from_numpy(np.load(folder / f"{name}.npy"))
