"""Where networks and SAEs run, and how float32 products are made there.

"cuda+tf32" is the device cuda with float32 products in TF32: their factors are rounded to 10 bits of mantissa, sums
stay float32. Without "+tf32" products on a GPU are of whole float32 numbers, convolutions too, which torch by itself
would make in TF32.
"""

from __future__ import annotations

import re
import sys

from policylens.errors import UserError

TF32 = "+tf32"
_DEVICE = re.compile(r"cpu|mps|(?P<gpu>cuda(:[0-9]+)?)(?P<tf32>\+tf32)?")


def named_device(device: str, tf32: bool) -> str:
    """As programs take it: "cuda+tf32". UserError for TF32 where it is not there."""
    if tf32 and not device.startswith("cuda"):
        raise UserError(f"compute.tf32: only devices called cuda have TF32, and the device is {device}; leave it out")
    return device + TF32 if tf32 else device


def device(text: str) -> str:
    """torch's name of a device, from what `--device` says; sets how products are made on GPUs in this process.

    Raises UserError for another text.
    """
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise UserError(f"--device {text}: a device is cpu, mps, cuda, cuda:1, or a cuda one with TF32: cuda{TF32}")
    if match["gpu"] is None:
        return text
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = match["tf32"] is not None
    return match["gpu"]


def uses_tf32() -> bool:
    """Whether float32 products on GPUs are made in TF32 in this process."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.backends.cuda.matmul.allow_tf32
