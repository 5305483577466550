"""Faster matrix products with bfloat16 factors, while parameters, gradients and moments stay float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Factors:
    """Parameters in the precision of products, by name, each converted when first asked for.

    buffer: gives memory that is kept from step to step (`Architecture.buffer`).
    """

    def __init__(self, p: Mapping[str, Tensor], dtype: torch.dtype, buffer: Callable[..., Tensor]) -> None:
        self._p, self._dtype, self._buffer = p, dtype, buffer
        self._made: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._p[name]
        if tensor.dtype is self._dtype:
            return tensor
        if name not in self._made:
            block = tensor if tensor.is_contiguous() else tensor.T
            like = torch.empty(0, dtype=self._dtype, device=tensor.device)
            copy = self._buffer(f"factor {name} {tuple(block.shape)}", tuple(block.shape), like).copy_(block)
            self._made[name] = copy if block is tensor else copy.T
        return self._made[name]


def add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    """into += a @ b, where `into` is float32 and the factors may be bfloat16 (their product then is rounded once)."""
    if a.dtype == into.dtype:
        into.addmm_(a, b)
    else:
        into.add_(torch.mm(a, b))
