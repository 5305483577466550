"""Cutting a compiled loop's range among torch's number of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def over_range(loop: Callable[..., Any], length: int, *arguments: Any) -> None:
    """Call loop(start, stop, *arguments) so that 0..length is covered, on as many threads as torch uses.

    The loop must release the interpreter lock and write only what belongs to its own range.
    """
    threads = max(1, min(torch.get_num_threads(), length))
    over_edges(loop, [length * part // threads for part in range(threads + 1)], *arguments)


def over_edges(loop: Callable[..., Any], edges: Sequence[int], *arguments: Any) -> None:
    """Call loop(start, stop, *arguments) for every two neighbouring edges, each on a thread of its own."""
    ranges = list(zip(edges, edges[1:], strict=False))
    if len(ranges) == 1:
        loop(*ranges[0], *arguments)
        return
    parts = [_pool(len(ranges)).submit(loop, start, stop, *arguments) for start, stop in ranges]
    for part in parts:
        part.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
