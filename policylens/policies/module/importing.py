"""A state dict (.pt with weights only, .safetensors) plus the config's options as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from policylens.errors import UserError
from policylens.stores.files import read_tensors
from policylens.stores.foreign import load_torch
from policylens.stores.schemas import check_value

_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}

OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["class", "inputs", "head", "sites"],
    "properties": {
        "class": {"type": "string"},
        "arguments": {"type": "object"},
        "inputs": _TEXTS,
        "head": {"enum": ["discrete", "gaussian"]},
        "sites": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer", "minimum": 1}},
    },
}
"""JSON schema of a checkpoint's `options` in config.yaml."""


def read(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a user's weights file."""
    check_value(OPTIONS, dict(options), str(path), ["options"])
    tensors = read_tensors(path) if path.suffix == ".safetensors" else load_torch(path)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: must hold a state dict (names to tensors); save module.state_dict()")
    sites = [{"submodule": name, "width": width} for name, width in options["sites"].items()]
    return {"family": "module", "architecture": {**options, "sites": sites}}, dict(tensors)
