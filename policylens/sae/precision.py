"""Faster matrix products with bfloat16 factors, while parameters, gradients and moments stay float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from policylens.sae.parallel import by_rows

if TYPE_CHECKING:
    from policylens.sae.architecture import Architecture

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Factors:
    """Parameters in the precision of products, by name.

    sae: whose precision and memory are used. what: names the memory, where several are in use together.
    """

    def __init__(self, p: Mapping[str, Tensor], sae: Architecture, what: str = "factor") -> None:
        self._exact = p
        self._factors = {name: _factor(f"{what} {name}", tensor, sae) for name, tensor in p.items()}

    def exact(self, name: str) -> Tensor:
        """The parameter itself."""
        return self._exact[name]

    def __getitem__(self, name: str) -> Tensor:
        return self._factors[name]


def _factor(name: str, tensor: Tensor, sae: Architecture) -> Tensor:
    block = tensor if tensor.is_contiguous() else tensor.T
    copy = memory_in(sae.factor_dtype, sae.buffer, name, block)
    if copy is not block:
        by_rows(Tensor.copy_, copy, block)
    return copy if block is tensor else copy.T


def memory_in(dtype: torch.dtype, buffer: Callable[..., Tensor], name: str, tensor: Tensor) -> Tensor:
    """Memory for a copy of a contiguous tensor in another precision, or the tensor itself if it has it."""
    if tensor.dtype is dtype:
        return tensor
    return buffer(f"rounded {name}", tuple(tensor.shape), torch.empty(0, dtype=dtype, device=tensor.device))


class RowFactor:
    """A matrix (n, d) in the precision of products, brought to it range by range as its rows come to be known.

    name: of the memory, which is `exact` itself if that has the precision.
    """

    def __init__(self, name: str, exact: Tensor, sae: Architecture) -> None:
        self._exact = exact
        self.tensor = memory_in(sae.factor_dtype, sae.buffer, name, exact)

    def take(self, start: int, stop: int) -> None:
        """Rows start:stop are known."""
        if self.tensor is not self._exact:
            self.tensor[start:stop].copy_(self._exact[start:stop])


def raw(matrix: Tensor) -> np.ndarray:
    """The numpy array of a float32 tensor on the CPU; of a bfloat16 one, its bits as int16."""
    return matrix.view(torch.int16).numpy() if matrix.dtype is torch.bfloat16 else matrix.numpy()


def add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    """into += a @ b, where `into` is float32 and the factors may be bfloat16 (their product then is rounded once)."""
    if a.dtype == into.dtype:
        into.addmm_(a, b)
    else:
        into.add_(torch.mm(a, b))
