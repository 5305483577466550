"""The architectures by name. Each is one file, loaded when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.sae.settings import ARCHITECTURES

if TYPE_CHECKING:
    from policylens.sae.architecture import Architecture

_CLASSES = {"standard": "Standard", "topk": "TopK"}


def build(settings: Mapping[str, Any]) -> Architecture:
    """The architecture that resolved settings ask for."""
    name = settings["architecture"]
    if name not in _CLASSES:
        raise UserError(f"architecture {name!r} is not known; there are: {', '.join(ARCHITECTURES)}")
    return getattr(importlib.import_module(f"policylens.sae.architectures.{name}"), _CLASSES[name])(settings)
