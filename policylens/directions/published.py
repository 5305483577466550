"""Directions and pairs files of the published vla-mech-interp tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policylens.directions.vectors import LATENT_DIRECTION, NEGATIVE, POSITIVE, WITH_BIAS, decoded
from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.stores.foreign import load_torch

FILES = {
    POSITIVE: "mean",
    NEGATIVE: "mean",
    LATENT_DIRECTION: "latent_direction",
    "residual_direction": "residual_direction",
}
"""File (without .pt) -> where the vector stands in it."""


def read_published(folder: Path, sae: SAE | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Vectors of a folder of `.pt` files, float64, and what the files say of them.

    Its `residual_direction` is decode(latent_direction), which has b_dec in it: it is `residual_direction_with_bias`
    here. With the SAE the one without bias is made. Facts: positive, negative (texts), rows (of each), difference:
    largest |latent_direction - (positive - negative)|. Raises UserError naming the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of directions")
    content = {name: _read(folder / f"{name}.pt", key) for name, key in FILES.items()}
    found = {name: values for name, (values, _) in content.items()}
    width = found[LATENT_DIRECTION].shape
    for name in (POSITIVE, NEGATIVE):
        if found[name].shape != width:
            raise UserError(f"{folder / name}.pt: has {len(found[name])} latents, {LATENT_DIRECTION}.pt {width[0]}")
    if sae is not None and width[0] != sae.cfg.d_sae:
        raise UserError(f"{folder}: its directions have {width[0]} latents, the SAE {sae.cfg.d_sae}; give their SAE")
    vectors = {WITH_BIAS: found.pop("residual_direction"), **found}
    if sae is not None:
        vectors = {**decoded(vectors[LATENT_DIRECTION], sae), **vectors}
    facts = {
        side: str(content[name][1].get("concept", side))
        for side, name in (("positive", POSITIVE), ("negative", NEGATIVE))
    }
    rows = {side: content[name][1].get("count") for side, name in (("positive", POSITIVE), ("negative", NEGATIVE))}
    off = np.abs(vectors[LATENT_DIRECTION] - (vectors[POSITIVE] - vectors[NEGATIVE])).max()
    return vectors, {**facts, "rows": rows, "difference": float(off)}


def _read(path: Path, key: str) -> tuple[np.ndarray, Mapping[str, Any]]:
    """A vector, and what stands beside it in its file: a bare tensor, or a dict with the tensor under a name."""
    import torch

    content = load_torch(path)
    beside = content if isinstance(content, Mapping) else {}
    vector = beside.get(key) if beside else content
    if not isinstance(vector, torch.Tensor) or vector.squeeze().ndim != 1:
        raise UserError(f"{path}: holds no vector {key!r}; give a folder of published directions")
    values = vector.detach().squeeze().double()
    if not bool(values.isfinite().all()):
        raise UserError(f"{path}: holds NaN or infinity; copy the file again")
    return values.numpy(), beside
