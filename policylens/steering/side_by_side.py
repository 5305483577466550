"""Many runs that know nothing of each other, in several processes; each finished one is kept on a shelf."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from policylens.progress import progress
from policylens.stores.shelf import Arrays, Shelf

Work = Callable[[], Arrays]

_shared: dict[str, tuple[Mapping[str, Work], Shelf]] = {}
"""What forked processes find in their copy of the memory: functions of functions cannot be sent to them."""


def side_by_side(works: Mapping[str, Work], shelf: Shelf, workers: int, what: str) -> dict[str, Arrays]:
    """Name -> what its work gives, in the given order, from the shelf where it is there already.

    workers: processes; 1 where the platform cannot fork. Each has a copy of everything, so that a work's numbers do not
    depend on who does it.
    """
    missing = [name for name in works if not shelf.has(name)]
    for _ in progress(_done(works, missing, shelf, workers), len(missing), what, "runs"):
        pass
    return {name: shelf.piece(name, works[name]) for name in works}


def _done(works: Mapping[str, Work], missing: Sequence[str], shelf: Shelf, workers: int) -> Iterator[str]:
    if workers == 1 or len(missing) < 2 or not sys.platform.startswith("linux"):
        for name in missing:
            shelf.piece(name, works[name])
            yield name
        return
    _shared["works"] = (works, shelf)
    try:
        with multiprocessing.get_context("fork").Pool(min(workers, len(missing)), _leave_interrupts) as pool:
            yield from pool.imap_unordered(_do, missing)
    finally:
        _shared.clear()


def _leave_interrupts() -> None:
    """The parent is told too, and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _do(name: str) -> str:
    works, shelf = _shared["works"]
    shelf.piece(name, works[name])
    return name
