"""One evaluator for the SAEs of all tools, in float32, and a clock that stands still while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from sae_settings import Setting
from torch import Tensor

CHUNK_ROWS = 1_024
TOLERANCE = 1e-2
Tensors = Mapping[str, Tensor]
Item = TypeVar("Item")


@torch.no_grad()
def reconstruct(tensors: Tensors, x: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
    """Reconstruction (n, d) and latents (n, m) of normalised rows.

    tensors: W_enc (d, m), b_enc (m,), W_dec (m, d), b_dec (d,) of f = ReLU(x W_enc + b_enc), x_hat = f W_dec + b_dec.
    k: latents kept per row, those with the largest f; None: all.
    """
    with torch.autocast("cpu", enabled=False):
        f = torch.relu_(torch.addmm(tensors["b_enc"], x, tensors["W_enc"]))
        if k is not None:
            largest = f.topk(k, dim=1, sorted=False)
            f = torch.zeros_like(f).scatter_(1, largest.indices, largest.values)
        return torch.addmm(tensors["b_dec"], f, tensors["W_dec"]), f


def evaluate(tensors: Tensors, held_out: Tensor, k: int | None) -> tuple[float, float]:
    """Explained variance about the mean, and L0 (mean number of latents that are not zero), of held-out rows."""
    plain = {name: tensor.detach().float() for name, tensor in tensors.items()}
    errors, active = 0.0, 0
    for x in held_out.split(CHUNK_ROWS):
        reconstruction, f = reconstruct(plain, x, k)
        errors += float((x - reconstruction).square().sum(dtype=torch.float64))
        active += int(f.count_nonzero())
    total = float((held_out - held_out.mean(0)).square().sum(dtype=torch.float64))
    return 1 - errors / total, active / len(held_out)


class Trained(NamedTuple):
    """What a training ends with. tensors: as `reconstruct` takes them. own: the tool's own way to reconstruct rows."""

    tensors: Tensors
    own: Callable[[Tensor], Tensor]


@torch.no_grad()
def check_form(trained: Trained, x: Tensor, k: int | None) -> None:
    """RuntimeError unless the evaluator makes of (n, d) rows what the tool itself makes of them."""
    plain = {name: tensor.detach().float() for name, tensor in trained.tensors.items()}
    found, wanted = reconstruct(plain, x, k)[0], trained.own(x)
    # Rounding may swap which of two equal latents is the k-th of a few rows, so that the mean is what counts.
    difference = float((found - wanted).norm() / wanted.norm())
    if not difference < TOLERANCE:
        raise RuntimeError(f"the evaluator's reconstruction differs from the tool's own by {difference:.1e}")


class Watch:
    """Seconds of training after every step, and the held-out measurements, during which the clock stands still."""

    def __init__(self, setting: Setting, held_out: Tensor) -> None:
        self.seconds: list[float] = []
        self.curve: list[dict[str, float]] = []
        self._held_out = held_out
        self._evaluated = set(setting.evaluated)
        self._k = setting.k if setting.architecture == "topk" else None
        self._elapsed, self._resumed = 0.0, 0.0

    def start(self, tensors: Callable[[], Tensors]) -> None:
        """Training begins. tensors: gives the SAE as it stands, in the form that `reconstruct` takes."""
        self._measure(0, tensors)
        self._resumed = time.perf_counter()

    def stepped(self, tensors: Callable[[], Tensors]) -> None:
        """One more step is done."""
        self._elapsed += time.perf_counter() - self._resumed
        self.seconds.append(self._elapsed)
        self._measure(len(self.seconds), tensors)
        self._resumed = time.perf_counter()

    def around(self, batches: Iterable[Item], tensors: Callable[[], Tensors]) -> Iterator[Item]:
        """Pass batches on to a trainer that asks for the next one after each step; call `stepped` after the last."""
        for number, batch in enumerate(batches):
            if number:
                self.stepped(tensors)
            else:
                self.start(tensors)
            yield batch

    def _measure(self, step: int, tensors: Callable[[], Tensors]) -> None:
        if step in self._evaluated:
            explained_variance, l0 = evaluate(tensors(), self._held_out, self._k)
            point = {"step": step, "seconds": self._elapsed, "explained_variance": explained_variance, "l0": l0}
            self.curve.append(point)
