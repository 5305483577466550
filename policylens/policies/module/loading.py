"""A user's class from its address in the config. This runs the user's own file, which is the point."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from policylens.errors import UserError


def construct(address: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An instance of the class at an address (:func:`load_class`); UserError if the arguments do not fit it."""
    try:
        return load_class(address)(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"class {address!r}: cannot be made with the arguments {dict(arguments)} ({type(error).__name__}: {error})"
        ) from error


def load_class(address: str) -> type[nn.Module]:
    """The class at `path/to/file.py:Name` or `package.module:Name`."""
    place, _, name = address.partition(":")
    if not place or not name:
        raise UserError(f"class {address!r}: write path/to/file.py:ClassName or package.module:ClassName")
    if place.endswith(".py") and not Path(place).is_file():
        raise UserError(f"class {address!r}: there is no file {place}")
    try:
        module = _run_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"class {address!r}: {place} cannot be imported ({type(error).__name__}: {error})") from error
    found = getattr(module, name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise UserError(f"class {address!r}: {place} has no torch module class {name}")
    return found


def _run_file(path: Path) -> ModuleType:
    name = f"policylens_user_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module
