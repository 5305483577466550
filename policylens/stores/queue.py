"""A background thread that works while the caller computes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class WriteQueue:
    """Calls are run in order on one thread. The first error stops all later calls and is raised to the caller.

    The queue itself has no bound: callers bound what waits by waiting for the buffers they have handed over.
    """

    def __init__(self, name: str = "store-writer") -> None:
        self._calls: queue.SimpleQueue[tuple[threading.Event, Callable[..., Any], tuple[Any, ...]] | None]
        self._calls = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> WriteQueue:
        self._thread.start()
        return self

    def put(self, call: Callable[..., Any], *arguments: Any) -> threading.Event:
        """Hand over a call; the event is set once it has run, or was skipped because of an earlier error.

        Raises the error of an earlier call, if there was one.
        """
        self._raise()
        done = threading.Event()
        self._calls.put((done, call, arguments))
        return done

    def drain(self) -> None:
        """Wait until every call has run; raises the first error."""
        self.put(lambda: None).wait()
        self._raise()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._error = self._error or error  # what still waits has become pointless
        self._calls.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            done, call, arguments = item
            try:
                if self._error is None:
                    call(*arguments)
            except BaseException as error:
                self._error = error
            finally:
                done.set()
