"""Many runs that know nothing of each other, in several processes; each finished one is kept on a shelf."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from policylens.errors import UserError
from policylens.progress import progress
from policylens.stores.shelf import Arrays, Shelf

Work = Callable[[], Arrays]


def side_by_side(works: Mapping[str, Work], shelf: Shelf, workers: int, what: str) -> dict[str, Arrays]:
    """Name -> what its work gives, in the given order, from the shelf where it is there already.

    workers: processes; 1 where the platform cannot fork. Each has a copy of everything, so that a work's numbers do not
    depend on who does it. Raises what a work raises, and UserError where a process ends without a word (killed, or out
    of memory); what was finished stays on the shelf.
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
    waiting = iter(missing)
    running: dict[Connection, tuple[str, ForkProcess]] = {}
    try:
        for name in islice(waiting, workers):
            _start(name, works[name], shelf, running)
        while running:
            for heard in wait(list(running)):
                yield _finished(heard, running)
                for name in islice(waiting, 1):
                    _start(name, works[name], shelf, running)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()


def _start(name: str, work: Work, shelf: Shelf, running: dict[Connection, tuple[str, ForkProcess]]) -> None:
    """One process per run, forked: functions of functions cannot be sent to one that is there already.

    A pool of processes would have threads of its own in this one, and wait for ever for a worker that was killed.
    """
    context = multiprocessing.get_context("fork")
    ear, mouth = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(name, work, shelf, mouth), daemon=True)
    process.start()
    mouth.close()
    running[ear] = (name, process)


def _do(name: str, work: Work, shelf: Shelf, mouth: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends its processes
    try:
        shelf.piece(name, work)
    except Exception as error:
        mouth.send(error)
    else:
        mouth.send(None)


def _finished(ear: Connection, running: dict[Connection, tuple[str, ForkProcess]]) -> str:
    """The name of the run at the other end; raises what went wrong there."""
    name, process = running.pop(ear)
    with ear, suppress(EOFError):
        error: Exception | None = ear.recv()
        process.join()
        if error is not None:
            raise error
        return name
    process.join()
    raise UserError(
        f"{name}: its process ended with {process.exitcode} before the run did, killed or out of memory; finished runs "
        "are kept: start it again, with fewer threads if memory was short"
    )
