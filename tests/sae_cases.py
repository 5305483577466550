"""Helpers of the tests of SAE architectures: small settings of each, random parameters, and planted data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from policylens.sae.architecture import SINCE, Architecture, Tensors
from policylens.sae.architectures import build
from policylens.sae.settings import resolve

OWN = {
    "standard": {"sparsity": 0.7},
    "plain_l1": {"sparsity": 0.7},
    "linear": {"sparsity": 0.7},
    "tied": {"sparsity": 0.7},
    "topk": {"k": 3},
    "batch_topk": {"k": 3},
    "jumprelu": {"sparsity": 0.7},
    "gated": {"sparsity": 0.7},
    "matryoshka": {"k": 3, "prefixes": [0.25, 0.5]},
    "transcoder": {"sparsity": 0.7, "output_site": "other"},
}
"""The settings that have no default, and such that 12 latents have several prefixes."""


def settings_of(architecture, latents=12, **more):
    """Complete settings."""
    return resolve({"architecture": architecture, "latents": latents, **OWN[architecture], **more})


def make(architecture, latents=12, **more) -> Architecture:
    """An architecture with small settings."""
    return build(settings_of(architecture, latents, **more))


def random_parameters(sae: Architecture, d_in=5, d_out=None, seed=0) -> Tensors:
    """Parameters in training, away from any special point; W_enc is the transpose of a block of memory."""
    generator = torch.Generator().manual_seed(seed)
    p = sae.initial(d_in, d_out or d_in, generator)
    for name, tensor in p.items():
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.add_(0.3 * (noise.abs() if name == "threshold" else noise))
    sae.constrain(p)
    return p


def memory_of(sae: Architecture, dead=(), **own) -> Tensors:
    """Memory in which these latents are dead and others are not; `own` by name."""
    memory = sae.initial_memory()
    memory[SINCE][list(dead)] = sae.settings["dead_after_rows"] + 1
    return memory | {name: torch.tensor(value) for name, value in own.items()}


def random_rows(rows, d, seed=0) -> Tensor:
    """(rows, d) standard normal."""
    return torch.randn(rows, d, generator=torch.Generator().manual_seed(seed))


def planted(rows, directions=32, d=24, active=3, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are sums of a few known directions, with an offset; and the directions."""
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(directions, d))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    codes = np.zeros((rows, directions))
    picks = rng.random((rows, directions)).argsort(1)[:, :active]
    np.put_along_axis(codes, picks, rng.uniform(0.5, 1.5, (rows, active)), 1)
    return (5 * codes @ dictionary + 2).astype(np.float32), dictionary


def found(decoder: Tensor, dictionary: np.ndarray, least=0.95) -> float:
    """Share of the planted directions that some decoder row (m, d) matches with this cosine."""
    directions = decoder.numpy() / (np.linalg.norm(decoder.numpy(), axis=1, keepdims=True) + 1e-12)
    return float((np.abs(dictionary @ directions.T).max(1) > least).mean())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch on so many threads, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
