"""How fast the matrix products of a training can be at most: measured on their own shapes, on the same threads.

    envs/run core python benchmarks/sae_ceiling.py JOB.json

The dense algorithm costs 10 d m operations per row: encoding and decoding, the way back through the decoder, and two
weight gradients (2 d m each). TopK with a sparse decoder costs 2 d m for encoding and 8 k d for the rest.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from sae_settings import Setting
from torch import Tensor

LEAST_SECONDS = 0.5
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def program() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    setting = Setting(**job["setting"])
    found = {name: ceilings(setting, dtype) for name, dtype in DTYPES.items()}
    Path(job["out"]).write_text(json.dumps(found), encoding="utf-8")


@torch.no_grad()
def ceilings(setting: Setting, dtype: torch.dtype) -> dict[str, float]:
    """Operations per second of the products, and the rows per second that they allow each algorithm."""
    n, d, m = setting.batch_rows, setting.width, setting.latents
    x, f = torch.randn(n, d).to(dtype), torch.randn(n, m).to(dtype)
    encoder, decoder = torch.randn(m, d).to(dtype).T, torch.randn(m, d).to(dtype)
    encoding = seconds(x, encoder)
    dense = 2 * encoding + seconds(f, decoder) + 2 * seconds(f.T, x)  # backwards through the decoder is like encoding
    products = 2 * n * d * m
    return {
        "flops": 5 * products / dense,
        "dense": n / dense,
        "sparse": n / (encoding * (1 + 4 * setting.k / m)),
    }


def seconds(a: Tensor, b: Tensor) -> float:
    """Of one product: the fastest of several, after one that warms up."""
    out = torch.mm(a, b)
    fastest, spent = float("inf"), 0.0
    while spent < LEAST_SECONDS:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        fastest = min(fastest, time.perf_counter() - start)
        spent += fastest
    return fastest


if __name__ == "__main__":
    program()
