"""Cutting a compiled loop's range among torch's number of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def over_range(loop: Callable[..., Any], length: int, *arguments: Any) -> None:
    """Call loop(start, stop, *arguments) so that 0..length is covered, on as many threads as torch uses.

    The loop must release the interpreter lock and write only what belongs to its own range.
    """
    threads = min(torch.get_num_threads(), length)
    if threads <= 1:
        loop(0, length, *arguments)
        return
    edges = [length * part // threads for part in range(threads + 1)]
    parts = [_pool(threads).submit(loop, a, b, *arguments) for a, b in zip(edges, edges[1:], strict=False)]
    for part in parts:
        part.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
