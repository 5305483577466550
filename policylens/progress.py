"""Progress that reads well on a terminal and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[Item], total: int | None, what: str, unit: str = "it") -> Iterator[Item]:
    """Pass items on while telling how far one is: a tqdm bar on a terminal, a plain line now and then in a log.

    total: how many items there will be, or None if unknown.
    what: what is being done ("capturing othello/final").
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=unit)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{what}: {count}{f' of {total}' if total else ''} {unit}")


def say(line: str) -> None:
    """One plain line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)
