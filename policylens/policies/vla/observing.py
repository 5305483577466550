"""From a batch's arrays to what the network takes: pictures, and noise that follows from the observation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Batch
from policylens.stores.texts import decode_texts


def pictures(batch: Batch, cameras: Sequence[str], side: int, device: torch.device, rows: int) -> dict[str, Tensor]:
    """Camera -> (rows, 3, side, side) float32, -1 to 1: resized without distortion, padded in the middle of black.

    Raises UserError for a camera that is missing, and for images that are not (rows, h, w, 3) uint8.
    """
    from lerobot.policies.common.vla_utils import resize_with_pad_torch

    found = {}
    for name in cameras:
        images = batch.get(name)
        if images is None:
            raise UserError(f"there are no images {name!r}; there are: {', '.join(batch)}")
        images = torch.as_tensor(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8 or len(images) != rows:
            raise UserError(
                f"images {name!r} are {images.dtype} {tuple(images.shape)}; they must be ({rows}, h, w, 3) uint8"
            )
        scaled = images.to(device, torch.float32) / 255
        if scaled.shape[1:3] != (side, side):
            scaled = resize_with_pad_torch(scaled, side, side)
        found[name] = (scaled * 2 - 1).permute(0, 3, 1, 2)
    return found


def states(batch: Batch, size: int) -> Tensor:
    """The batch's states, (n, size) float32. Raises UserError if there are none, or others: of another length, NaN."""
    found = batch.get("state")
    if found is None:
        raise UserError(f"there are no states 'state'; there are: {', '.join(batch)}")
    found = torch.as_tensor(found, dtype=torch.float32)
    if found.ndim != 2 or found.shape[1] != size:
        raise UserError(f"states 'state' are {tuple(found.shape)}; this policy's are (n, {size}), in their own units")
    if not found.isfinite().all():
        row = int((~found.isfinite().all(1)).nonzero()[0, 0])
        raise UserError(f"states 'state' are NaN or infinite in row {row}")
    return found


def instructions(batch: Batch, rows: int) -> list[str]:
    """The texts of so many rows. Raises UserError if there are none, or they are no padded bytes."""
    found = batch.get("instruction")
    if found is None:
        raise UserError(f"there are no texts 'instruction'; there are: {', '.join(batch)}")
    found = np.asarray(found)
    if found.dtype != np.uint8 or found.ndim != 2 or len(found) != rows:
        raise UserError(
            f"texts 'instruction' are {found.dtype} {found.shape}; they must be ({rows}, bytes) uint8, UTF-8 padded "
            "with zeros"
        )
    return decode_texts(found)


def noise_of(states: Tensor, chunk: int, width: int) -> Tensor:
    """Standard normal (n, chunk, width) float32 that follows from each state's bytes alone."""
    rows = np.ascontiguousarray(states.cpu().numpy(), dtype="<f4")
    keys = [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in rows]
    drawn = [np.random.default_rng(key).standard_normal((chunk, width), dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(drawn))
