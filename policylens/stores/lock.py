"""One writer per store: a lock that dies with its holder, and a holder that dies with its workflow."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from policylens.progress import say

WORKFLOW = "POLICYLENS_WORKFLOW"
"""Environment variable: set for jobs of a workflow, which must not outlive it."""

_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Hold the only right to write `target`; waits, and says so, while another process holds it.

    The lock file `.<name>.lock` stands beside the target and vanishes with the lock; the kernel releases the lock
    when its holder dies, however it dies.
    """
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, target)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, target: Path) -> int:
    waiting = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                say(f"waiting for another process that is writing {target}")
                waiting = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        # The former holder removed its file on leaving: a lock on a file without a name protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def die_with_parent() -> None:
    """In a job of a workflow (Linux): end when the workflow's process is killed, so that no orphan writes on."""
    if not os.environ.get(WORKFLOW) or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:  # the parent went before we asked
        sys.exit(1)
