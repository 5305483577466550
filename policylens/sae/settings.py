"""Settings of an SAE's training: names, meaning, defaults and checks. Free of heavy imports.

Config validation and the command line both come through `resolve`, so that a setting is known under one name and
has one default. A new architecture adds its own settings to `OWN` and its defaults to `DEFAULTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.stores.schemas import check_value

COUNT = {"type": "integer", "minimum": 1}
NOT_NEGATIVE = {"type": "number", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}

COMMON: dict[str, dict[str, Any]] = {
    "architecture": {"type": "string", "description": "How activations become latents, and the loss."},
    "latents": COUNT | {"description": "Width m of the dictionary."},
    "steps": COUNT | {"description": "Optimiser steps."},
    "batch_rows": COUNT | {"description": "Rows per optimiser step."},
    "sampling": {
        "enum": ["replacement", "epochs"],
        "description": "Draw every row independently, or go through shuffled epochs.",
    },
    "learning_rate": {"type": "number", "exclusiveMinimum": 0, "description": "Of Adam."},
    "learning_rate_decay": SHARE
    | {"description": "Share of the steps, at the end, over which the learning rate falls linearly to 0."},
    "gradient_clip": {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}],
        "description": "Largest norm of the gradient over all parameters together; null: no clipping.",
    },
    "centre": {"type": "boolean", "description": "Subtract the training rows' mean before encoding."},
    "rescale": {"type": "boolean", "description": "Scale the data so that the mean norm of a row is sqrt(d)."},
    "active_threshold": NOT_NEGATIVE
    | {"description": "A latent is active where f * ||W_dec|| exceeds this, in units of the scaled data."},
    "precision": {
        "enum": ["float32", "bfloat16"],
        "description": "Of the factors of matrix products; sums, parameters and moments stay float32.",
    },
    "log_points": COUNT | {"description": "How many times training is measured and written to its history."},
    "monitor_rows": COUNT | {"description": "Fixed training rows on which the history is measured."},
}

OWN: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {
        "sparsity": NOT_NEGATIVE | {"description": "lambda: weight of sum_i ||W_dec,i|| f_i in the loss."},
        "sparsity_warmup": SHARE
        | {"description": "Share of the steps, at the start, over which lambda rises linearly from 0."},
    },
    "topk": {
        "k": COUNT | {"description": "Latents kept per row: the largest k, where positive."},
        "auxiliary_weight": NOT_NEGATIVE
        | {"description": "Weight of the loss that lets dead latents model the error; 0: off."},
        "auxiliary_k": COUNT | {"description": "Dead latents that may model the error of a row."},
        "dead_after_rows": COUNT | {"description": "A latent is dead after this many rows without firing."},
    },
}

_SHARED_DEFAULTS = {
    "sampling": "replacement",
    "learning_rate_decay": 0.0,
    "gradient_clip": 1.0,
    "rescale": True,
    "precision": "float32",
    "log_points": 50,
    "monitor_rows": 2048,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "standard": _SHARED_DEFAULTS
    | {
        "steps": 12_000,
        "batch_rows": 16_384,
        "learning_rate": 1e-4,
        "centre": False,
        "active_threshold": 0.1,
        "sparsity_warmup": 0.0,
    },
    "topk": _SHARED_DEFAULTS
    | {
        "steps": 5_000,
        "batch_rows": 4_096,
        "learning_rate": 1e-3,
        "learning_rate_decay": 0.2,
        "centre": True,
        "active_threshold": 0.0,
        "auxiliary_weight": 1 / 32,
        "auxiliary_k": 64,
        "dead_after_rows": 500_000,
    },
}

ARCHITECTURES = tuple(sorted(OWN))


def schema(architecture: str) -> dict[str, Any]:
    """JSON schema of the settings of one architecture; those without a default are required."""
    properties = COMMON | OWN[architecture] | {"architecture": {"const": architecture}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": sorted(properties.keys() - DEFAULTS[architecture].keys()),
    }


def resolve(settings: Mapping[str, Any], source: str = "SAE settings") -> dict[str, Any]:
    """All settings of a training, defaults filled in, checked.

    settings: at least `architecture`, `latents` and the architecture's own sparsity (`sparsity` or `k`).
    source: what a UserError names as the place of the fault.
    """
    name = settings.get("architecture")
    if name not in OWN:
        raise UserError(f"{source}: architecture {name!r} is not known; there are: {', '.join(ARCHITECTURES)}")
    check_value(schema(name), dict(settings), source)
    filled = DEFAULTS[name] | dict(settings)
    if filled.get("k", 0) > filled["latents"]:
        raise UserError(
            f"{source}: k is {filled['k']} but there are only {filled['latents']} latents; "
            "choose a smaller k or more latents"
        )
    return filled
