"""From a batch's arrays to what the network takes: pictures, and noise that follows from the observation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.protocol import Batch


def pictures(batch: Batch, cameras: Sequence[str], side: int, device: torch.device) -> dict[str, Tensor]:
    """Camera -> (n, 3, side, side) float32, -1 to 1: resized without distortion, padded in the middle of black.

    Raises UserError for a camera that is missing, and for images that are not (n, h, w, 3) uint8.
    """
    from lerobot.policies.common.vla_utils import resize_with_pad_torch

    found = {}
    for name in cameras:
        images = batch.get(name)
        if images is None:
            raise UserError(f"there are no images {name!r}; there are: {', '.join(batch)}")
        images = torch.as_tensor(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
            raise UserError(
                f"images {name!r} are {images.dtype} {tuple(images.shape)}; they must be (n, h, w, 3) uint8"
            )
        scaled = images.to(device, torch.float32) / 255
        if scaled.shape[1:3] != (side, side):
            scaled = resize_with_pad_torch(scaled, side, side)
        found[name] = (scaled * 2 - 1).permute(0, 3, 1, 2)
    return found


def noise_of(states: Tensor, chunk: int, width: int) -> Tensor:
    """Standard normal (n, chunk, width) float32 that follows from each state's bytes alone."""
    rows = np.ascontiguousarray(states.cpu().numpy(), dtype="<f4")
    keys = [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in rows]
    drawn = [np.random.default_rng(key).standard_normal((chunk, width), dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(drawn))
