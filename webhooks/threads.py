"""Threads for the calls that an event loop cannot make itself.

It does what `asyncio.to_thread` does with less work per call: the loop is woken once for all calls
that have ended. A thread starts when all others are in use.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from orchestrator.background import TOO_MANY_THREADS, start_thread

T = TypeVar("T")


class Threads:
    """Threads of one event loop.

    Args:
        loop: the event loop.
        number: of threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self._loop = loop
        self._number = number
        self._started = 0
        #: The calls that have not ended.
        self._running = 0
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], Any]] = (
            SimpleQueue()
        )
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._waking = False

    def waiting(self) -> int:
        """Return the number of calls that have no thread yet."""
        return self._calls.qsize()

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Make a call in a thread. Return its result, or raise its error.

        Raises:
            RuntimeError: there is no thread, and none can be started now.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._started < min(self._running + 1, self._number):
            self._started += start_thread(self._work, "request") is not None
        if not self._started:
            raise RuntimeError(TOO_MANY_THREADS)
        self._running += 1
        self._calls.put((future, call, arguments))
        try:
            return await future
        finally:
            self._running -= 1

    def _work(self) -> None:
        while True:
            self._make(*self._calls.get())

    def _make(
        self, future: asyncio.Future[T], call: Callable[..., T], arguments: tuple[Any, ...]
    ) -> None:
        """Make a call, and have its future told."""
        result, failure = None, None
        try:
            result = call(*arguments)
        except BaseException as error:
            failure = error
        self._ended.append((future, result, failure))
        # Nobody adds between the check and the wake-up: `_deliver` resets before it empties.
        if not self._waking:
            self._waking = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        while self._ended:
            future, result, failure = self._ended.popleft()
            if future.done():  # cancelled
                continue
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
