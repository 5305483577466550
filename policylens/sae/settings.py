"""Settings of an SAE's training: names, meaning, defaults and checks. Free of heavy imports.

Config validation and the command line both come through `resolve`, so that a setting is known under one name and
has one default. A new architecture adds its own settings to `OWN` and its defaults to `DEFAULTS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.sae import row_kinds
from policylens.stores.faults import did_you_mean
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
        "description": "Largest norm of the gradient over all parameters together, where the sum of squares of a row "
        "counts 1 (a loss that divides it by d is clipped at as much less); null: no clipping.",
    },
    "centre": {"type": "boolean", "description": "Subtract the training rows' mean before encoding."},
    "rescale": {"type": "boolean", "description": "Scale the data so that the mean norm of a row is sqrt(d)."},
    "row_norm": row_kinds.SETTING,
    "seed": {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}],
        "description": "Of the initialisation; null: the sweep's. Batches follow the sweep's seed alone.",
    },
    "start": {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "Folder of an SAE to go on from (fine-tuning), instead of an initialisation.",
    },
    "output_site": {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "Site to predict, of the same capture; null: the site itself. Makes a transcoder.",
    },
    "dead_after_rows": COUNT | {"description": "A latent is dead after this many rows without firing."},
    "resample_every": {
        "anyOf": [COUNT, {"type": "null"}],
        "description": "Steps after which dead latents start anew from badly reconstructed rows; null: never.",
    },
    "active_threshold": NOT_NEGATIVE
    | {"description": "A latent is active where |f| * ||W_dec|| exceeds this, in units of the scaled data."},
    "precision": {
        "enum": ["float32", "bfloat16"],
        "description": "Of the factors of matrix products; sums, parameters and moments stay float32.",
    },
    "log_points": COUNT | {"description": "How many times training is measured and written to its history."},
    "monitor_rows": COUNT | {"description": "Fixed training rows on which the history is measured."},
}

_WARMUP = {
    "sparsity_warmup": SHARE
    | {"description": "Share of the steps, at the start, over which lambda rises linearly from 0."}
}
_AUXILIARY = {
    "auxiliary_weight": NOT_NEGATIVE
    | {"description": "alpha: weight of the loss that lets dead latents model the error; 0: off."},
    "auxiliary_k": COUNT | {"description": "Dead latents that may model the error of a row."},
}
_BATCH_TOPK = _AUXILIARY | {
    "k": COUNT | {"description": "Latents kept per row, on average over a batch."},
    "threshold_decay": SHARE | {"description": "Weight on the old value in the moving average of the threshold."},
}


def _weight_of(term: str) -> dict[str, dict[str, Any]]:
    return {"sparsity": NOT_NEGATIVE | {"description": f"lambda: weight of {term} in the loss."}}


_NORMS = {
    "initial_norms": {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "number", "exclusiveMinimum": 0},
        "description": "Between which norms the decoder's directions begin, uniformly; twice the same: all with it.",
    },
}

OWN: dict[str, dict[str, dict[str, Any]]] = {
    "standard": _weight_of("sum_i ||W_dec,i|| f_i")
    | _WARMUP
    | _NORMS
    | {
        "subtract_b_dec": {
            "type": "boolean",
            "description": "Whether the encoder takes x - b_dec in training: the same functions, learnt another way.",
        }
    },
    "plain_l1": _weight_of("the mean of f over latents") | _WARMUP,
    "linear": {
        "sparsity": NOT_NEGATIVE | {"description": "lambda at the start: weight of the mean of |z| ||W_dec||."},
        "sparsity_target": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "null"}],
            "description": "Share of the latents that is to be active; null: lambda stays as it is.",
        },
        "target_rate": NOT_NEGATIVE | {"description": "How much ln lambda changes per step, at most."},
    },
    "tied": _weight_of("sum_i f_i") | _WARMUP,
    "topk": {"k": COUNT | {"description": "Latents kept per row: the largest k, where positive."}} | _AUXILIARY,
    "batch_topk": _BATCH_TOPK,
    "jumprelu": _weight_of("the number of active latents")
    | _WARMUP
    | {
        "initial_threshold": NOT_NEGATIVE | {"description": "theta before the first step."},
        "bandwidth": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "eps: width of the window around theta whose rows teach it.",
        },
        "penalty": {"enum": ["l0", "tanh"], "description": "Number of active latents, or sum of tanh(4 f)."},
        "surrogate": {
            "enum": ["threshold", "all"],
            "description": "What the pseudo-derivative reaches: the thresholds alone, or all parameters.",
        },
        "preactivation_weight": NOT_NEGATIVE
        | {"description": "mu: weight of sum_i ReLU(theta_i - a_i), which pulls on silent latents; 0: off."},
    },
    "gated": _weight_of("sum_i ReLU(gate)") | _WARMUP,
    "matryoshka": _BATCH_TOPK
    | {
        "prefixes": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "number", "exclusiveMinimum": 0},
            "description": "Prefixes that reconstruct by themselves: widths, or (up to 1) shares of the latents.",
        },
    },
    "transcoder": _weight_of("sum_i ||W_dec,i|| f_i")
    | _WARMUP
    | _NORMS
    | {"output_site": {"type": "string", "description": "Site to predict, of the same capture."}},
}
"""Settings that only some architectures have, by architecture."""

_SHARED_DEFAULTS = {
    "seed": None,
    "start": None,
    "output_site": None,
    "dead_after_rows": 500_000,
    "resample_every": None,
    "sampling": "replacement",
    "learning_rate_decay": 0.0,
    "gradient_clip": 1.0,
    "rescale": True,
    "precision": "float32",
    "log_points": 50,
    "monitor_rows": 2048,
}

_STUDY = _SHARED_DEFAULTS | {
    "steps": 12_000,
    "batch_rows": 16_384,
    "learning_rate": 1e-4,
    "centre": False,
    "active_threshold": 0.1,
    "sparsity_warmup": 0.0,
    "initial_norms": [0.05, 1.0],
}
_CENTRED = _SHARED_DEFAULTS | {
    "steps": 5_000,
    "batch_rows": 4_096,
    "learning_rate": 1e-3,
    "learning_rate_decay": 0.2,
    "centre": True,
    "active_threshold": 0.0,
}
_TOPK = _CENTRED | {"auxiliary_weight": 1 / 32, "auxiliary_k": 64}
_BATCH = _TOPK | {"threshold_decay": 0.99}

DEFAULTS: dict[str, dict[str, Any]] = {
    "standard": _STUDY | {"subtract_b_dec": False},
    "plain_l1": _SHARED_DEFAULTS
    | {
        "steps": 20_000,
        "batch_rows": 256,
        "sampling": "epochs",
        "learning_rate": 1e-3,
        "gradient_clip": None,
        "centre": False,
        "rescale": False,
        "active_threshold": 0.0,
        "sparsity": 0.4,
        "sparsity_warmup": 0.0,
    },
    "linear": _SHARED_DEFAULTS
    | {
        "steps": 20_000,
        "batch_rows": 32,
        "sampling": "epochs",
        "learning_rate": 1e-3,
        "gradient_clip": None,
        "centre": True,
        "active_threshold": 0.1,
        "sparsity": 1e-3,
        "sparsity_target": 0.1,
        "target_rate": 0.01,
    },
    "tied": _CENTRED | {"sparsity_warmup": 0.05},
    "topk": _TOPK,
    "batch_topk": _BATCH,
    "jumprelu": _CENTRED
    | {
        "sparsity_warmup": 0.2,
        "initial_threshold": 0.1,
        "bandwidth": 0.5,
        "penalty": "l0",
        "surrogate": "threshold",
        "preactivation_weight": 0.0,
    },
    "gated": _CENTRED | {"sparsity_warmup": 0.05},
    "matryoshka": _BATCH | {"prefixes": [1 / 32, 3 / 32, 7 / 32, 15 / 32, 1]},
    "transcoder": {name: value for name, value in _STUDY.items() if name != "output_site"} | {"centre": True},
}

ARCHITECTURES = tuple(sorted(OWN))

MAY_BE_ABSENT = {"row_norm"}
"""Settings that complete ones have only where they are asked for."""


def schema(architecture: str) -> dict[str, Any]:
    """JSON schema of the settings of one architecture; those without a default are required."""
    properties = COMMON | OWN[architecture] | {"architecture": {"const": architecture}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": sorted(properties.keys() - DEFAULTS[architecture].keys() - MAY_BE_ABSENT),
    }


def resolve(settings: Mapping[str, Any], source: str = "SAE settings") -> dict[str, Any]:
    """All settings of a training, defaults filled in, checked.

    settings: at least `architecture`, `latents` and the architecture's own sparsity (`sparsity` or `k`).
    source: what a UserError names as the place of the fault.
    """
    name = settings.get("architecture")
    check_architecture(name, source)
    check_value(schema(name), dict(settings), source)
    filled = row_kinds.without_none(DEFAULTS[name] | dict(settings))
    _check(filled, source)
    return filled


def check_architecture(name: Any, source: str) -> None:
    """UserError naming the nearest architecture unless there is one of this name."""
    if isinstance(name, str) and name in OWN:
        return
    hints = [did_you_mean(str(name).lower(), ARCHITECTURES), f"there are: {', '.join(ARCHITECTURES)}"]
    raise UserError(f"{source}: architecture {name!r} is not known; {' '.join(filter(None, hints))}")


def _check(filled: Mapping[str, Any], source: str) -> None:
    """What no schema can say about complete settings."""
    for name, value in filled.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{source}: {name} is {value}; it must be a finite number")
    if filled.get("k", 0) > filled["latents"]:
        raise UserError(
            f"{source}: k is {filled['k']} but there are only {filled['latents']} latents; "
            "choose a smaller k or more latents"
        )
    if filled["architecture"] == "tied" and filled["output_site"] is not None:
        raise UserError(f"{source}: a tied SAE cannot have an output_site, since its decoder is its encoder")
    if filled.get("subtract_b_dec") and filled["output_site"] is not None:
        raise UserError(
            f"{source}: b_dec cannot be subtracted from the input of a transcoder; set subtract_b_dec: false"
        )
    row_kinds.check_row_norm(filled, source)
    if "prefixes" in filled:
        _check_prefixes(filled, source)


def _check_prefixes(filled: Mapping[str, Any], source: str) -> None:
    given, m = filled["prefixes"], filled["latents"]
    widths = [_width(prefix, m) for prefix in given]
    if any(prefix > 1 and prefix != width for prefix, width in zip(given, widths, strict=True)):
        raise UserError(f"{source}: prefixes {given}: a width is a whole number, a share at most 1")
    if max(widths) > m or any(later < earlier for earlier, later in itertools.pairwise(widths)):
        raise UserError(f"{source}: prefixes {given} must rise and not exceed the {m} latents")


def _width(prefix: float, latents: int) -> int:
    return max(1, round(prefix * latents if prefix <= 1 else prefix))


def prefix_widths(settings: Mapping[str, Any]) -> list[int]:
    """Widths of the prefixes that reconstruct by themselves, rising; all latents together are always the last."""
    m = settings["latents"]
    return sorted({_width(prefix, m) for prefix in settings["prefixes"]} | {m})
