"""The architectures by name: one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.sae.architecture import Architecture
from policylens.sae.architectures.standard import Standard
from policylens.sae.architectures.topk import TopK

REGISTRY: dict[str, type[Architecture]] = {"standard": Standard, "topk": TopK}


def build(settings: Mapping[str, Any]) -> Architecture:
    """The architecture that resolved settings ask for."""
    name = settings["architecture"]
    if name not in REGISTRY:
        raise UserError(f"architecture {name!r} is not known; there are: {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](settings)
