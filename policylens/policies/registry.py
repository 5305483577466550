"""Which policy families there are, and how to get at their rooms without loading what is not needed."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from policylens.errors import UserError
from policylens.policies.family import Family

if TYPE_CHECKING:
    import torch

    from policylens.policies.protocol import Policy


@functools.cache
def families() -> tuple[str, ...]:
    """Names of all families, sorted: the folders beside this file that hold a family.py."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/family.py")))


@functools.cache
def family(name: str) -> Family:
    """A family's manifest; an unknown name is a UserError that lists the known ones."""
    if name not in families():
        raise UserError(f"there is no policy family {name!r}; there are: {', '.join(families())}")
    return importlib.import_module(f"policylens.policies.{name}.family").FAMILY


def room(name: str, part: str) -> ModuleType:
    """One module of a family's folder, or of the one whose rooms it shares: "policy", "environment", "labels"..."""
    return importlib.import_module(f"policylens.policies.{family(name).rooms or name}.{part}")


def require(name: str, capability: str, wanted_by: str) -> None:
    """UserError in one line if the family lacks a capability."""
    if capability not in family(name).capabilities:
        raise UserError(
            f"{wanted_by} needs a policy that can {capability!r}; the family {name!r} has: "
            f"{', '.join(sorted(family(name).capabilities)) or 'no capabilities'}"
        )


def load_policy(folder: Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Policy:
    """Load the policy in a checkpoint folder (model.safetensors + policy.json), strictly.

    dtype: floating-point precision of weights and activations; as in the file if None.
    """
    from policylens.policies.checkpoint import read_checkpoint

    record, tensors = read_checkpoint(folder)
    require(record["family"], "run", f"{folder}")
    return room(record["family"], "policy").build(record, tensors, device, dtype)
