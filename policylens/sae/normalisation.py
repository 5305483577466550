"""Normalising activations for training, and folding that into the weights so that an SAE takes raw activations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.row_norm import scales_of

CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Normalisation:
    """Statistics of the training rows, and what is done with them: x' = (x - shift) * scale.

    mean: (d,) float32, the rows' mean, kept whether or not it is subtracted.
    centre: whether `mean` is subtracted.
    scale: factor after centring; 1 where rescaling is off.
    row_norm: one of `ROW_NORMS` where each row is normalised by numbers of its own first (None: it is not); mean and
    scale are then those of the normalised rows. raw_mean: (d,) the mean of the rows as they were.
    """

    mean: Tensor
    centre: bool
    scale: float
    row_norm: str | None = None
    raw_mean: Tensor | None = None

    @property
    def shift(self) -> Tensor:
        """(d,) what is subtracted: the mean, or zeros."""
        return self.mean if self.centre else torch.zeros_like(self.mean)

    def apply(self, x: Tensor) -> Tensor:
        """Normalised rows, (n, d), as new memory."""
        if self.row_norm is not None:
            x = scales_of(self.row_norm, x).into(x)
        return (x - self.shift.to(x)) * self.scale

    def apply_(self, x: Tensor) -> Tensor:
        """Normalise (n, d) rows in place."""
        if self.row_norm is not None:
            scales_of(self.row_norm, x).into_(x)
        if self.centre:
            x.sub_(self.mean.to(x))
        return x.mul_(self.scale) if self.scale != 1 else x


class Statistics:
    """Mean of rows, and their mean norm about it and about 0; weighted, if rows are drawn so. Chunk by chunk.

    chunks: gives the rows anew each time it is called, (n, d) tensors in any float precision.
    weights: (rows,) how much each counts, or None. row_norm: what is done to each row first (see `Normalisation`).
    """

    def __init__(
        self,
        chunks: Callable[[], Iterable[Tensor]],
        weights: np.ndarray | None = None,
        row_norm: str | None = None,
    ) -> None:
        self._chunks, self._weights, self._row_norm = chunks, weights, row_norm
        self.count, total, raw, norms = 0.0, 0.0, 0.0, 0.0
        for given, weight in self._weighted():
            rows = self._rows(given)
            self.count += float(weight.sum())
            total = total + weight @ rows.double()
            raw = total if row_norm is None else raw + weight @ given.double()
            norms += float(weight @ rows.float().norm(dim=1).double())
        if self.count == 0:
            raise UserError("all row weights are 0: there is nothing to learn from")
        self.mean, self.raw_mean = (total / self.count).float(), (raw / self.count).float()
        self._norm = norms / self.count

    def _rows(self, given: Tensor) -> Tensor:
        """Rows as they are before centring and scaling."""
        if self._row_norm is None:
            return given
        given = given.float()
        return scales_of(self._row_norm, given).into(given)

    def _weighted(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = 0
        for rows in self._chunks():
            for part in rows.split(CHUNK_ROWS):
                weight = torch.ones(len(part), dtype=torch.float64)
                if self._weights is not None:
                    weight = torch.from_numpy(self._weights[first : first + len(part)])
                yield part, weight
                first += len(part)

    @functools.cached_property
    def _spread(self) -> float:
        distances = (
            float(weight @ (self._rows(given).float() - self.mean).norm(dim=1).double())
            for given, weight in self._weighted()
        )
        return sum(distances) / self.count

    def normalisation(self, *, centre: bool, rescale: bool) -> Normalisation:
        """The normalisation whose scale makes the mean norm of a row sqrt(d).

        Source of the scaling: Anthropic, "Update on how we train SAEs", Circuits Updates April 2024
        (https://transformer-circuits.pub/2024/april-update/index.html#training-saes).
        Raises UserError where all rows are equal (nothing is left to scale).
        """
        scale = 1.0
        if rescale:
            norm = self._spread if centre else self._norm
            if norm == 0:
                raise UserError(f"all activations are {'equal' if centre else 'zero'}: there is nothing to learn")
            scale = float(np.float32(len(self.mean) ** 0.5 / norm))
        return Normalisation(self.mean, centre, scale, self._row_norm, self.raw_mean)


def measure(activations: Tensor, *, centre: bool, rescale: bool) -> Normalisation:
    """The normalisation of (n, d) rows in memory."""
    return Statistics(lambda: [activations]).normalisation(centre=centre, rescale=rescale)


def fold(p: Tensors, before: Normalisation, after: Normalisation, biases: Mapping[str, Tensor | float]) -> Tensors:
    """Parameters of the SAE on raw rows that equals the given one on normalised rows.

    before: of the rows it takes; after: of those it reconstructs (the same but for a transcoder). biases: name of each
    bias that is added to factor * (x W_enc), and that factor (a number or (m,)).
    With x' = (x - c) s: pre-activations x' W_enc + b_enc = x (s W_enc) + (b_enc - s c W_enc), so latents are unchanged
    and so are any further tensors of an architecture (they act on pre-activations); the reconstruction is
    x_hat' / s + c. Computed in float64, returned in the parameters' own precision.
    """
    return _changed(p, biases, before.shift, before.scale, after.shift, after.scale)


def unfold(p: Tensors, before: Normalisation, after: Normalisation, biases: Mapping[str, Tensor | float]) -> Tensors:
    """The inverse of :func:`fold`: parameters on normalised rows that equal the given ones on raw rows."""
    undone = (-before.scale * before.shift.double(), 1 / before.scale, -after.scale * after.shift.double())
    return _changed(p, biases, *undone, 1 / after.scale)


def _changed(
    p: Tensors,
    biases: Mapping[str, Tensor | float],
    shift: Tensor,
    scale: float,
    shift_out: Tensor,
    scale_out: float,
) -> Tensors:
    exact = {name: tensor.detach().cpu().double() for name, tensor in p.items()}
    moved = scale * (shift.double() @ exact["W_enc"])
    folded = exact | {
        "W_enc": exact["W_enc"] * scale,
        **{name: exact[name] - torch.as_tensor(factor).cpu().double() * moved for name, factor in biases.items()},
        "W_dec": exact["W_dec"] / scale_out,
        "b_dec": exact["b_dec"] / scale_out + shift_out.double(),
    }
    return {name: tensor.to(p[name].dtype).contiguous() for name, tensor in folded.items()}
