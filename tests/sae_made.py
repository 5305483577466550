"""SAEs made by hand, for tests of what is measured of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from policylens.sae.base import SAE, SAEConfig
from policylens.sae.settings import resolve


def made(decoder, encoder=None, b_enc=None, b_dec=None, threshold=0.0, seed=0, **names) -> SAE:
    """A standard SAE, f = ReLU(x W_enc + b_enc). decoder: (m, d); encoder: (d, m), by default its transpose."""
    decoder = torch.as_tensor(np.asarray(decoder), dtype=torch.float32)
    m, d = decoder.shape
    tensors = {
        "W_enc": decoder.T.clone() if encoder is None else torch.as_tensor(encoder, dtype=torch.float32),
        "b_enc": torch.zeros(m) if b_enc is None else torch.as_tensor(b_enc, dtype=torch.float32),
        "W_dec": decoder.clone(),
        "b_dec": torch.zeros(d) if b_dec is None else torch.as_tensor(b_dec, dtype=torch.float32),
    }
    settings = resolve({"architecture": "standard", "latents": m, "sparsity": 1.0})
    normalisation = {"centre": False, "scale": 1.0, "mean": [0.0] * d}
    cfg = SAEConfig(
        architecture="standard",
        d_in=d,
        d_sae=m,
        d_out=d,
        settings=settings,
        normalisation=normalisation,
        active_threshold=threshold,
        seed=seed,
        **names,
    )
    return SAE(cfg, {name: tensor.contiguous() for name, tensor in tensors.items()})


def normalising(sae, kind) -> SAE:
    """The same weights, for rows that are normalised by numbers of their own first."""
    return SAE(dataclasses.replace(sae.cfg, settings={**sae.cfg.settings, "row_norm": kind}), sae.tensors)


def directions(m, d, seed=0) -> np.ndarray:
    """(m, d) random unit vectors, float32."""
    drawn = np.random.default_rng(seed).normal(size=(m, d))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
