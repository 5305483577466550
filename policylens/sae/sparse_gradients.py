"""Gradients on a CPU through sparse codes: what k active latents per row need, not what m would.

Only the encoder's product is dense (all latents compete): about 2 d m + 10 k d floating-point operations per row, k
being the active latents, where all products in full take 10 d m.

Rows go forwards and back on as many threads as there are, each for itself; then the gradients are gathered latent by
latent, from blocks of rows that fit into a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.sae import active, kernels
from policylens.sae.architecture import Architecture, Tensors
from policylens.sae.parallel import by_rows, over_edges, over_range, threads
from policylens.sae.precision import Factors, RowFactor, raw

if TYPE_CHECKING:
    from policylens.sae.auxiliary import WithAuxiliary

ENTRIES_OF_A_LATENT = 16
"""So many entries of a latent a block of rows should have: for each the gradient is read and written once."""

SMALLEST_BLOCK = 256

BLOCK_WEIGHTS = 2**18
"""Weights of a block of latents: half a mebibyte in bfloat16, half of a core's own cache."""

ENTRIES_OF_A_ROW = 8
"""So many entries of a row a block of latents should have: they are worked on four at a time."""


class Code(NamedTuple):
    """Which latents are active: `counts[r]` of row r from `starts[r]` on (see `policylens.sae.kernels`)."""

    starts: np.ndarray
    counts: np.ndarray
    latents: np.ndarray

    def rows(self, start: int, stop: int) -> Code:
        """The code of these rows alone."""
        return Code(self.starts[start:stop], self.counts[start:stop], self.latents)

    def cuts(self, m: int = 0, width: int = 0) -> np.ndarray:
        """(blocks + 1, n) places that cut the rows' entries into blocks of latents, whose weights stay in a cache.

        m, width: of the weights; one block if they are not given.
        """
        entries = int(self.counts.sum()) // max(len(self.counts), 1)
        blocks = max(1, min(-(-m * width // BLOCK_WEIGHTS), entries // ENTRIES_OF_A_ROW))
        if blocks == 1:
            return np.stack([self.starts, self.starts + self.counts])
        cuts = np.empty((blocks + 1, len(self.counts)), np.int64)
        kernels.cut(*self, np.linspace(0, m, blocks + 1).astype(np.int64), cuts)
        return cuts


Choose = Callable[[int, int], Code | None]
"""The code of the rows start:stop, or None if it is not sparse enough."""


class Block(NamedTuple):
    """Entries of a block of rows by latent: i's are `first[i]` to `first[i + 1]` in `rows` and `entries`."""

    first: np.ndarray
    rows: np.ndarray
    entries: np.ndarray


class Pass(NamedTuple):
    """A range of rows after they went through.

    squares: (n,) squared errors. values, slopes: of every entry. errors: (d_out,) their sum. blocks: the entries.
    """

    squares: Tensor
    values: np.ndarray
    slopes: np.ndarray
    errors: Tensor
    blocks: list[Block]

    @property
    def smallest(self) -> float:
        """The smallest positive value, infinity if there is none."""
        found = (self.values[block.entries] for block in self.blocks)
        return min(float(values.min(initial=np.inf, where=values > 0)) for values in found)


class Sums(NamedTuple):
    """squares: sum over rows of the squared error, 0-d. latents: (m,) sum of every latent's values over rows."""

    squares: Tensor
    latents: Tensor


def comparable(dense: Tensor) -> np.ndarray:
    """The bits of a float32 or bfloat16 matrix as integers, which are in the order of the numbers if positive."""
    return dense.view(torch.int16 if dense.dtype is torch.bfloat16 else torch.int32).numpy()


def tiles(sae: Architecture, x: Tensor, start: int, stop: int) -> list[tuple[int, int]]:
    """Rows start:stop in pieces whose latents stay in a cache."""
    size = sae.tile_rows(x)
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def encoded(sae: Architecture, factors: Factors, x: Tensor, out: Tensor) -> Tensor:
    """x W_enc + b_enc of some rows, in the precision of products."""
    return torch.addmm(factors["b_enc"], x.to(sae.factor_dtype), factors["W_enc"], out=out)


def encoded_tiles(
    sae: Architecture, factors: Factors, x: Tensor, start: int, stop: int, every: Tensor | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """x W_enc + b_enc of rows start:stop, tile by tile: where in start:stop, and the comparable latents.

    every: (n, m) in the precision of products, to keep them in; otherwise a tile is overwritten by the next.
    """
    m = len(factors["b_enc"])
    for first, last in tiles(sae, x, start, stop):
        if every is None:
            out = sae.buffer(f"latents from {start}", (last - first, m), factors["b_enc"])
        else:
            out = every[first:last]
        yield slice(first - start, last - start), comparable(encoded(sae, factors, x[first:last], out))


def largest(sae: Architecture, factors: Factors, x: Tensor, k: int) -> Choose:
    """Chooses the k largest positive latents of every row."""

    def choose(start: int, stop: int) -> Code:
        latents, counts = np.empty((stop - start, k), np.int32), np.empty(stop - start, np.int32)
        for part, dense in encoded_tiles(sae, factors, x, start, stop):
            active.largest(dense, latents[part], counts[part])
        return Code(np.arange(stop - start, dtype=np.int64) * k, counts, latents.reshape(-1))

    return choose


def positive(sae: Architecture, factors: Factors, x: Tensor, below: float, every: Tensor | None = None) -> Choose:
    """Chooses all positive latents of rows if they are less than a share of all entries.

    every: (n, m) in the precision of products, written in any case: x W_enc + b_enc.
    """
    m = len(factors["b_enc"])

    def choose(start: int, stop: int) -> Code | None:
        latents = np.empty(int(below * (stop - start) * m) + m, np.int32)
        starts, counts, place = np.empty(stop - start, np.int64), np.empty(stop - start, np.int32), 0
        for part, dense in encoded_tiles(sae, factors, x, start, stop, every):
            if place >= 0:
                place = active.list_positive(dense, starts[part], counts[part], latents, place)
            elif every is None:
                break
        return Code(starts, counts, latents[:place]) if place >= 0 else None

    return choose


def largest_of_batch(sae: Architecture, factors: Factors, x: Tensor, k: int) -> Code:
    """The n k largest positive latents of n rows together (fewer if fewer are positive)."""
    every = sae.buffer("latents of a batch", (len(x), len(factors["b_enc"])), factors["b_enc"])

    def encode(start: int, stop: int) -> None:
        for _ in encoded_tiles(sae, factors, x, start, stop, every):
            pass

    over_range(encode, len(x))
    dense = comparable(every)
    cut = nth_largest(dense, len(x) * k)
    above, equal = np.empty(len(x), np.int32), np.empty(len(x), np.int32)
    over_range(lambda a, b: active.count_from(dense[a:b], cut, above[a:b], equal[a:b]), len(x))
    # Of entries equal to the smallest that is kept, the first ones are, so that there are n k in all.
    before = np.cumsum(equal) - equal
    spare = np.clip(len(x) * k - above.sum() - before, 0, equal).astype(np.int32)
    if cut == 0:
        spare[:] = 0
    counts = (above + spare).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    latents = np.empty(starts[-1], np.int32)
    over_range(lambda a, b: active.list_from(dense[a:b], cut, starts[a:b], spare[a:b], latents), len(x))
    return Code(starts[:-1], counts, latents)


def nth_largest(dense: np.ndarray, n: int) -> np.integer:
    """The n-th largest entry of a matrix of integers, or 0 if fewer than n are positive."""
    shift = 8 * (dense.dtype.itemsize - 2)

    def histogram(start: int, stop: int) -> np.ndarray:
        bins = np.zeros(2**15, np.int64)
        active.histogram(dense[start:stop], shift, bins)
        return bins

    down = np.cumsum(sum(over_range(histogram, len(dense)))[::-1])
    if down[-1] < n:
        return dense.dtype.type(0)
    position = int(np.searchsorted(down, n))
    top = 2**15 - 1 - position
    if shift == 0:
        return dense.dtype.type(top)
    inside = dense[(dense >> shift) == top]
    rank = n - (int(down[position - 1]) if position else 0)
    return np.partition(inside, len(inside) - rank)[len(inside) - rank]


def add_code(
    sae: Architecture,
    factors: Factors,
    x: Tensor,
    target: Tensor,
    choose: Choose,
    into: Tensors,
    error: Tensor,
    factor: float,
    penalty: Tensor,
) -> tuple[Sums, list[Pass]] | None:
    """Decode, and add the gradient of factor/2 sum ||error||^2 + sum_i penalty_i sum_r f_ri to `into`.

    None, and nothing is added, if some part of the rows is not sparse enough. The penalty's own dependence on the
    decoder, if any, is left to the caller. error: (n, d_out) float32, written: decoded - target.
    """
    x_factor, error_factor = RowFactor("x", x, sae), RowFactor("error", error, sae)

    def through(start: int, stop: int) -> Pass | None:
        code = choose(start, stop)
        if code is None:
            return None
        part = _through(factors, x[start:stop], target[start:stop], code, error[start:stop], factor, penalty)
        blocks = blocks_of_rows(code, len(penalty), start)
        for rows in (x_factor, error_factor):
            rows.take(start, stop)
        return Pass(*part, error[start:stop].sum(0), blocks)

    passes = over_range(through, len(x))
    if any(part is None for part in passes):
        return None
    sums = gather(passes, error_factor.tensor, x_factor.tensor, factor, into)
    into["b_dec"].add_(sum(part.errors for part in passes), alpha=factor)
    return Sums(torch.cat([part.squares for part in passes]).sum(), sums), passes


def _through(
    factors: Factors, x: Tensor, target: Tensor, code: Code, error: Tensor, factor: float, penalty: Tensor
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Squared errors of rows, and every entry's value and slope."""
    values, slopes = np.empty((2, len(code.latents)), np.float32)
    squares = np.empty(len(x), np.float32)
    entries = code.cuts(*factors["W_dec"].shape), code.latents
    encoder = raw(factors["W_enc"].T), factors.exact("b_enc").numpy()
    decoder, bias = raw(factors["W_dec"]), factors.exact("b_dec").numpy()
    kernels.relu_products(*entries, x.numpy(), *encoder, values)
    kernels.decode(*entries, values, decoder, bias, target.numpy(), error.numpy(), squares)
    kernels.back(*entries, values, error.numpy(), decoder, np.float32(factor), penalty.numpy(), slopes)
    return torch.from_numpy(squares), values, slopes


def blocks_of_rows(code: Code, m: int, number: int) -> list[Block]:
    """The entries by latent, in blocks of rows. number: of the first row."""
    n, entries = len(code.counts), int(code.counts.sum())
    size = max(SMALLEST_BLOCK, ENTRIES_OF_A_LATENT * m * n // max(entries, 1))
    edges = np.linspace(0, n, -(-n // size) + 1).astype(int)
    return [
        Block(*kernels.by_latent(*code.rows(start, stop), m, number + start))
        for start, stop in zip(edges, edges[1:], strict=False)
    ]


def gather(
    passes: Sequence[Pass],
    error: Tensor,
    x: Tensor,
    factor: float,
    into: Tensors,
    latents: tuple[int, int] | None = None,
) -> Tensor:
    """Add the gradients of the latents from all entries to W_dec, W_enc and b_enc; (m,) sums of their values.

    error, x: in the precision of products. latents: only those from the first to before the second.
    """
    sums = np.zeros(len(into["b_enc"]), np.float32)
    to_decoder, to_encoder, to_bias = into["W_dec"].numpy(), into["W_enc"].T.numpy(), into["b_enc"].numpy()
    one, factor, error, x = np.float32(1), np.float32(factor), raw(error), raw(x)

    def add(start: int, stop: int) -> None:
        for part in passes:
            for first, rows, entries in part.blocks:
                kernels.accumulate(start, stop, first, rows, entries, part.values, factor, error, to_decoder)
                kernels.accumulate(start, stop, first, rows, entries, part.slopes, one, x, to_encoder)
                kernels.add_up(start, stop, first, entries, part.values, sums)
                kernels.add_up(start, stop, first, entries, part.slopes, to_bias)

    over_edges(add, balanced(sum(block.first for part in passes for block in part.blocks), latents))
    return torch.from_numpy(sums)


def balanced(first: np.ndarray, latents: tuple[int, int] | None = None) -> list[int]:
    """Edges of ranges of the latents, one per thread, with about as many entries each: first[i] are before latent i."""
    start, stop = latents or (0, len(first) - 1)
    shares = np.linspace(first[start], first[stop], threads() + 1)[1:-1]
    return [start, *np.clip(np.searchsorted(first, shares), start, stop).tolist(), stop]


def start_from_zero(into: Tensors) -> None:
    """Set all gradients to 0."""
    for gradient in into.values():
        by_rows(Tensor.zero_, gradient if gradient.is_contiguous() else gradient.T)


def add_auxiliary(sae: WithAuxiliary, p: Tensors, x: Tensor, error: Tensor, into: Tensors, dead: Tensor) -> Tensor:
    """Add the gradient of AuxK (`policylens.sae.auxiliary`) to `into`; returns that loss. error: decoded - target."""
    weight = sae.settings["auxiliary_weight"] / error.numel()
    few = {
        "W_enc": p["W_enc"].T.index_select(0, dead).T,
        "b_enc": p["b_enc"][dead],
        "W_dec": p["W_dec"].index_select(0, dead),
        "b_dec": torch.zeros_like(p["b_dec"]),
    }
    slopes, factors = {name: torch.zeros_like(tensor) for name, tensor in few.items()}, Factors(few, sae, "dead")
    choose = largest(sae, factors, x, min(sae.settings["auxiliary_k"], len(dead)))
    rest = sae.buffer("rest", tuple(error.shape), error)
    sums, _ = add_code(sae, factors, x, -error, choose, slopes, rest, 2 * weight, torch.zeros_like(few["b_enc"]))
    into["W_enc"].T.index_add_(0, dead, slopes["W_enc"].T)
    into["b_enc"].index_add_(0, dead, slopes["b_enc"])
    into["W_dec"].index_add_(0, dead, slopes["W_dec"])
    return weight * sums.squares


def code_gradients(
    sae: WithAuxiliary,
    p: Tensors,
    x: Tensor,
    target: Tensor,
    choose: Choose,
    factors: Factors,
    into: Tensors,
    dead: Tensor,
) -> tuple[Tensor, Sums, list[Pass]]:
    """Write the gradient of mean ||error||^2 / d_out of a code, and of AuxK, into `into`; the loss, sums and passes."""
    start_from_zero(into)
    error, size = sae.buffer("errors", tuple(target.shape), target), target.numel()
    nothing = torch.zeros_like(p["b_enc"])
    sums, passes = add_code(sae, factors, x, target, choose, into, error, 2 / size, nothing)
    loss = sums.squares / size
    if len(dead):
        loss = loss + add_auxiliary(sae, p, x, error, into, dead)
    return loss, sums, passes
