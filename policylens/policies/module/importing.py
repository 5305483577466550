"""A state dict (.pt with weights only, .safetensors) plus the config's options as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from policylens.errors import UserError
from policylens.policies.module.family import OPTIONS, architecture
from policylens.stores.files import read_tensors
from policylens.stores.foreign import load_torch
from policylens.stores.schemas import check_value

READERS = {".safetensors": read_tensors, ".pt": load_torch, ".pth": load_torch, ".bin": load_torch}


def read(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a user's weights file."""
    check_value(OPTIONS, dict(options), str(path), ["options"])
    if path.suffix not in READERS:
        raise UserError(f"{path}: weights are read from {', '.join(READERS)}")
    tensors = READERS[path.suffix](path)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: must hold a state dict (names to tensors); save module.state_dict()")
    return {"family": "module", "architecture": architecture(options)}, dict(tensors)
