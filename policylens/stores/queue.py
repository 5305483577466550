"""A single background thread that writes while the caller computes on, at bounded memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

WAITING = 8
"""Calls that may wait: enough to keep the writer busy, few enough that memory stays small."""


class WriteQueue:
    """Calls are run in order on one thread. The first error stops all later calls and is raised to the caller."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.Queue(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)

    def __enter__(self) -> WriteQueue:
        self._thread.start()
        return self

    def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Hand over a call; blocks while too many wait. Raises the error of an earlier call, if there was one."""
        self._raise()
        self._calls.put((call, arguments))

    def drain(self) -> None:
        """Wait until every call has run; raises the first error."""
        self._calls.join()
        self._raise()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            try:
                if self._error is None:
                    item[0](*item[1])
            except BaseException as error:
                self._error = error
            finally:
                self._calls.task_done()
