"""What is compared in benchmarks/sae_training.py: which SAEs, for how many steps, on how many rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

OURS = "ours"
FLOAT32, AUTOCAST, COMPILED = "float32", "autocast", "autocast and compiled"
COMPILER = shutil.which("g++")


@dataclass(frozen=True)
class Contestant:
    """A tool with a trainer.

    tool: module sae_<tool>.py. environment: of envs/. variants: by architecture, ways to run it, of which the fastest
    is taken. same_loss: whether it minimises what the others do; else it only shows its activations per second, which
    no bound counts.
    """

    name: str
    tool: str
    environment: str
    variants: Mapping[str, tuple[str, ...]]
    same_loss: bool = True


BOTH = (FLOAT32, AUTOCAST)
CONTESTANTS = (
    Contestant(OURS, "ours", "core", {"standard": ("bfloat16",), "topk": ("bfloat16",)}),
    Contestant(
        "SAELens",
        "saelens",
        "interop",
        dict.fromkeys(("standard", "topk"), BOTH + ((COMPILED,) if COMPILER else ())),
    ),
    Contestant("dictionary_learning", "dictionary_learning", "interop", {"standard": BOTH, "topk": BOTH}),
    Contestant(
        "dictionary_learning, plain L1", "dictionary_learning_normed", "interop", {"standard": BOTH}, same_loss=False
    ),
)


def contestants(architecture: str) -> list[Contestant]:
    """Who trains an architecture."""
    return [contestant for contestant in CONTESTANTS if architecture in contestant.variants]


@dataclass(frozen=True)
class Setting:
    """One SAE and its training, the same for all tools.

    width, latents: d and m. steps: optimiser steps, of `batch_rows` rows. evaluations: how many times the held-out
    rows are measured, evenly over the steps. warm_steps: first steps, which do not count for activations per second.
    rows, held_out: resident training rows and held-out rows. k: of TopK. sparsity: lambda of the standard SAE, in
    sum_d (x - x_hat)^2 + lambda sum_i f_i ||W_dec,i||, the mean of which over rows all three tools minimise.
    """

    architecture: str
    width: int
    latents: int
    steps: int
    evaluations: int
    warm_steps: int
    learning_rate: float
    sparsity: float = 0.0
    rows: int = 262_144
    held_out: int = 8_192
    batch_rows: int = 4_096
    k: int = 32

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return f"{self.architecture}, d={self.width}, m={self.latents}"

    @property
    def evaluated(self) -> list[int]:
        """Steps after which the held-out rows are measured; 0 is the initialisation."""
        return sorted({round(self.steps * part / self.evaluations) for part in range(self.evaluations + 1)})


SIZES = {
    "small": {"width": 256, "latents": 2_048, "learning_rate": 3e-3},
    "medium": {"width": 256, "latents": 8_192, "learning_rate": 2e-3},
    "large": {"width": 2_048, "latents": 16_384, "rows": 65_536, "held_out": 2_048},
}
LENGTHS = {
    ("standard", "small"): {"steps": 600, "evaluations": 20, "warm_steps": 300, "sparsity": 8.0},
    ("topk", "small"): {"steps": 120, "evaluations": 15, "warm_steps": 40},
    ("standard", "medium"): {
        "steps": 240,
        "evaluations": 12,
        "warm_steps": 120,
        "sparsity": 8.0,
        "learning_rate": 3e-3,
    },
    ("topk", "medium"): {"steps": 48, "evaluations": 8, "warm_steps": 16},
    ("standard", "large"): {
        "steps": 120,
        "evaluations": 12,
        "warm_steps": 60,
        "sparsity": 20.0,
        "learning_rate": 1.5e-3,
        "batch_rows": 2_048,
    },
    ("topk", "large"): {"steps": 12, "evaluations": 6, "warm_steps": 4, "learning_rate": 5e-4},
}
"""A standard SAE begins with half of its latents active; its rate is that of the second half of a run, by when it has
become sparse. Lambda, learning rate and rows per step are such that it becomes so within minutes."""


def full(effort: float) -> list[Setting]:
    """Every architecture at every size. effort: factor of the number of steps."""
    return [_setting(architecture, size, effort) for size in SIZES for architecture in ("standard", "topk")]


def quick() -> list[Setting]:
    """The smallest size, only long enough to see that everything works."""
    short = {"steps": 16, "evaluations": 4, "warm_steps": 4, "rows": 32_768, "held_out": 2_048}
    return [replace(_setting(architecture, "small", 1.0), **short) for architecture in ("standard", "topk")]


def _setting(architecture: str, size: str, effort: float) -> Setting:
    shape = SIZES[size] | LENGTHS[architecture, size]
    shape["warm_steps"] = max(1, round(shape["warm_steps"] * effort))
    shape["steps"] = max(shape["warm_steps"] + 2, round(shape["steps"] * effort))
    return Setting(architecture, **shape)
