"""Cutting work among torch's number of threads: each part runs on a thread of its own, torch's products in it too.

One barrier for many operations, where torch would have one for each. Torch's own threads wait for work by spinning and
would take the cores from ours, so that within `in_parts` torch starts none.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

_THREADS: ContextVar[int | None] = ContextVar("threads", default=None)


def threads() -> int:
    """How many parts work is cut into: torch's number of threads."""
    return _THREADS.get() or torch.get_num_threads()


@contextmanager
def in_parts() -> Iterator[None]:
    """Within, torch runs on one thread, and `over_range` on as many as torch had before.

    Threads that others start within and that then first use torch keep to one thread too.
    """
    yield from _with(threads(), 1)


@contextmanager
def as_a_whole() -> Iterator[None]:
    """Within `in_parts`, torch on all threads again: for work that is not cut into parts."""
    yield from _with(threads(), threads())


def _with(parts: int, of_torch: int) -> Iterator[None]:
    before, token = torch.get_num_threads(), _THREADS.set(parts)
    torch.set_num_threads(of_torch)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _THREADS.reset(token)


def over_range(work: Callable[[int, int], Result], length: int) -> list[Result]:
    """work(start, stop) for ranges that cover 0..length, one for each thread; the results in order.

    A part should release the interpreter lock, as compiled loops and torch's operations do, and write only what belongs
    to its own range. Where there are several, torch uses one thread in each.
    """
    parts = max(1, min(threads(), length))
    return over_edges(work, [length * part // parts for part in range(parts + 1)])


def over_edges(work: Callable[[int, int], Result], edges: Sequence[int]) -> list[Result]:
    """work(start, stop) for every two neighbouring edges, each on a thread of its own."""
    ranges = list(zip(edges, edges[1:], strict=False))
    if len(ranges) == 1:
        return [work(*ranges[0])]
    parts = [_pool(len(ranges)).submit(work, start, stop) for start, stop in ranges]
    wait(parts)
    return [part.result() for part in parts]


def by_rows(work: Callable[..., Any], *tensors: Tensor) -> None:
    """Call `work` on tensors of one length: on a CPU on ranges of their rows, elsewhere at once."""
    if tensors[0].device.type != "cpu":
        work(*tensors)
    else:
        over_range(lambda start, stop: work(*(tensor[start:stop] for tensor in tensors)), len(tensors[0]))


def row_norms(matrix: Tensor) -> Tensor:
    """(n,) Euclidean norms of the rows of a matrix (n, d)."""
    norms = matrix.new_empty(len(matrix))
    by_rows(lambda rows, out: torch.linalg.vector_norm(rows, dim=1, out=out), matrix, norms)
    return norms


@functools.cache
def _pool(parts: int) -> ThreadPoolExecutor:
    """Threads in which torch runs on one thread.

    Torch's number of threads is the calling thread's, and that with which threads to come begin when they first ask
    for it. So these ask before they set theirs, and the latter is put back.
    """
    pool, together, before = ThreadPoolExecutor(parts), threading.Barrier(parts), torch.get_num_threads()

    def alone() -> None:
        torch.get_num_threads()
        torch.set_num_threads(1)
        together.wait()

    for one in [pool.submit(alone) for _ in range(parts)]:
        one.result()
    torch.set_num_threads(before)
    return pool
