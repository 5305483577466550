"""Interpretable inputs: numbers of an observation that mean something by themselves, with names and units.

Free of heavy imports: families' manifests list them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Input:
    """One number of an observation.

    name: as a reader of a figure takes it, such as "velocity of joint 3". unit: "1" where it has none.
    array: the source's array that holds it. index: its place in a row of that array; () where a row is one number.
    """

    name: str
    unit: str
    array: str
    index: tuple[int, ...] = ()

    def of(self, batch: Mapping[str, Any]) -> np.ndarray:
        """Its value in every row of a batch (or of any mapping with its array), (n,)."""
        return np.asarray(batch[self.array])[(slice(None), *self.index)]


def no_inputs(record: Mapping[str, Any]) -> tuple[Input, ...]:
    """The inputs of a family that cannot name any."""
    return ()


def unnamed(name: str, shape: Sequence[int]) -> tuple[Input, ...]:
    """All numbers of a source's array of which only the name is known: "observations[3]", without a unit.

    shape: of a row.
    """
    return tuple(
        Input(f"{name}[{','.join(map(str, index))}]" if index else name, "1", name, tuple(index))
        for index in np.ndindex(*shape)
    )
