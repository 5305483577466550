"""Faster matrix products with bfloat16 factors, while parameters, gradients and moments stay float32."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    """into += a @ b, where `into` is float32 and the factors may be bfloat16 (their product then is rounded once)."""
    if a.dtype == into.dtype:
        into.addmm_(a, b)
    else:
        into.add_(torch.mm(a, b))
