"""The vectors of a pair of concepts, and what they are measured in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policylens.concepts.probes import balanced_weights, fit_probes
from policylens.directions.cells import ACTIVATION, LATENT, RESIDUAL, Cells, check_fixed_directions
from policylens.directions.weights import contrast
from policylens.sae.base import SAE
from policylens.stores.files import write_tensors

POSITIVE, NEGATIVE = "positive_latent_mean", "negative_latent_mean"
LATENT_DIRECTION, RESIDUAL_DIRECTION = "latent_direction", "residual_direction"
WITH_BIAS = "residual_direction_with_bias"
DIFFERENCE, PROBE = "mean_difference", "probe"

UNITS = {
    POSITIVE: "latents",
    NEGATIVE: "latents",
    LATENT_DIRECTION: "latents",
    RESIDUAL_DIRECTION: "activation",
    WITH_BIAS: "activation",
    DIFFERENCE: "activation",
    PROBE: "log-odds per activation",
}
MEANING = {
    POSITIVE: "mean latents over rows of the positive concept",
    NEGATIVE: "mean latents over rows of the negative concept",
    LATENT_DIRECTION: "positive_latent_mean - negative_latent_mean",
    RESIDUAL_DIRECTION: "W_dec applied to latent_direction: what adding latent_direction to the latents adds",
    WITH_BIAS: "decode(latent_direction): the same plus b_dec, as published tools have it",
    DIFFERENCE: "mean activation over rows of the positive concept less that of the negative one",
    PROBE: "weights of a logistic probe",
}
DIRECTIONS = (LATENT_DIRECTION, RESIDUAL_DIRECTION, WITH_BIAS, DIFFERENCE, PROBE)
"""Vectors that pairs are compared by."""
STEERABLE = (RESIDUAL_DIRECTION, WITH_BIAS, DIFFERENCE, PROBE)
"""Vectors in the activation's space."""
SUM_OF = {LATENT_DIRECTION: LATENT, RESIDUAL_DIRECTION: RESIDUAL, DIFFERENCE: ACTIVATION}
"""Vectors that are differences of means, and what they are means of."""


def vectors_of(cells: Cells, sae: SAE | None) -> dict[str, np.ndarray]:
    """Name -> vector, float64: all but the probe. With an SAE those of its latents too."""
    weights = contrast(cells)
    found = {DIFFERENCE: weights @ cells.sums[ACTIVATION]}
    if sae is not None:
        for name, side in ((POSITIVE, True), (NEGATIVE, False)):
            mine = cells.positive == side
            found[name] = cells.sums[LATENT][mine].sum(0) / cells.count[mine].sum()
        found |= decoded(found[POSITIVE] - found[NEGATIVE], sae)
    return found


def decoded(latent_direction: np.ndarray, sae: SAE) -> dict[str, np.ndarray]:
    """A latent direction (m,) and what it is in the activation, without and with the decoder's bias."""
    check_fixed_directions(sae)
    bias = sae.b_dec.detach().cpu().double().numpy()
    along = latent_direction @ sae.W_dec.detach().cpu().double().numpy()
    return {LATENT_DIRECTION: latent_direction, RESIDUAL_DIRECTION: along, WITH_BIAS: along + bias}


def probe(positive: np.ndarray, negative: np.ndarray, ridge: float) -> np.ndarray:
    """Weights (d,) of a logistic probe with ridge penalty between rows (n, d) of two concepts, which weigh the same."""
    x = torch.from_numpy(np.concatenate([positive, negative])).double()
    labels = torch.zeros(len(x), 1, dtype=x.dtype)
    labels[: len(positive)] = 1
    return fit_probes(x, labels, (ridge,), balanced_weights(labels))[0].weights[:, 0].numpy()


METADATA = "policylens"


def write_vectors(path: Path, vectors: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> None:
    """Write float32 tensors by name; the file's metadata say units and meaning, and `facts`, as one JSON object."""
    tensors: dict[str, Tensor] = {
        name: torch.from_numpy(np.ascontiguousarray(values, np.float32)) for name, values in vectors.items()
    }
    about = {name: {"unit": UNITS[name], "meaning": MEANING[name]} for name in sorted(vectors)}
    # One entry: safetensors writes several in an order that changes from run to run.
    write_tensors(path, tensors, {METADATA: json.dumps({**facts, "vectors": about}, sort_keys=True)})
