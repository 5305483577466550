"""Whether a file's tensors are those that they should be, said in one line if not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from policylens.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def check_names(tensors: Mapping[str, Tensor], expected: Iterable[str], place: object, fault: str) -> None:
    """UserError "<place>: <fault> (missing: ...; not expected: ...)" unless the names are exactly the expected ones."""
    wanted = set(expected)
    missing, foreign = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if missing or foreign:
        raise UserError(
            f"{place}: {fault} (missing: {', '.join(missing) or 'none'}; not expected: {', '.join(foreign) or 'none'})"
        )


def check_shape(tensor: Tensor, expected: Sequence[int], place: object, name: str, by: str) -> None:
    """UserError unless the tensor has the shape that `by` (a file, the architecture) asks for."""
    if list(tensor.shape) != list(expected):
        raise UserError(f"{place}: tensor {name!r} has shape {list(tensor.shape)}, {by} asks for {list(expected)}")


def check_finite(tensors: Mapping[str, Tensor], place: object, remedy: str) -> None:
    """UserError naming the tensor if a weight is NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{place}: tensor {name!r} holds NaN or infinity; {remedy}")
