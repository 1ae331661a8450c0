"""Threads for the calls that an event loop cannot make itself.

It does what `asyncio.to_thread` does with less work per call: the loop is woken once for all calls
that have ended. A thread starts when all others are in use. A call that takes long, as when a
database or a disk hangs, has its thread besides the usual number. So the others do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from orchestrator import log
from orchestrator.background import TOO_MANY_THREADS, start_thread

T = TypeVar("T")
_Call = tuple[asyncio.Future[Any], Callable[..., Any], Any]

#: A call takes long from then on. Seconds.
LONG_SECONDS = 1.0
#: Calls that take long have at most this many threads besides the usual number.
MAX_LONG_CALLS = 56


class Threads:
    """Threads of one event loop.

    Args:
        loop: the event loop.
        number: of threads for calls that do not take long.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self._loop = loop
        self._number = number
        self._started = 0
        #: The calls that have not ended.
        self._running = 0
        #: When the calls that have a thread got it, by their futures.
        self._began: dict[asyncio.Future[Any], float] = {}
        #: The number of threads will be checked.
        self._checking = False
        #: None ends a thread.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
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
        if self._started <= self._running and self._started < self._number + self._long():
            self._start()
        if not self._started:
            raise RuntimeError(TOO_MANY_THREADS)
        self._running += 1
        self._calls.put((future, call, arguments))
        self._check_later()
        return await future

    def _start(self) -> None:
        self._started += start_thread(self._work, "request") is not None

    def _check_later(self) -> None:
        """Check the number in a second, if calls wait or there are additional threads."""
        needed = self._running > self._started or self._started > self._number
        if needed and not self._checking:
            self._checking = True
            self._loop.call_later(LONG_SECONDS, self._check)

    def _check(self) -> None:
        """Start threads for calls that wait for long ones. End threads that are needed no more."""
        long = self._long()
        if long:
            log.get().warning("requests_take_long", requests=long, waiting=self.waiting())
        allowed = self._number + long
        for _ in range(min(self._running, allowed) - self._started):
            self._start()
        while self._started > allowed:
            self._started -= 1
            self._calls.put(None)
        self._checking = False
        self._check_later()

    def _long(self) -> int:
        """Return the number of calls that take long, at most MAX_LONG_CALLS."""
        if self._started < self._number:
            return 0
        before = self._loop.time() - LONG_SECONDS
        return min(sum(began <= before for began in self._began.copy().values()), MAX_LONG_CALLS)

    def _work(self) -> None:
        while call := self._calls.get():
            self._make(*call)

    def _make(
        self, future: asyncio.Future[T], call: Callable[..., T], arguments: tuple[Any, ...]
    ) -> None:
        """Make a call, and have its future told."""
        result, failure = None, None
        self._began[future] = self._loop.time()
        try:
            result = call(*arguments)
        except BaseException as error:
            failure = error
        del self._began[future]
        self._ended.append((future, result, failure))
        # Nobody adds between the check and the wake-up: `_deliver` resets before it empties.
        if not self._waking:
            self._waking = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        while self._ended:
            self._running -= 1
            future, result, failure = self._ended.popleft()
            if future.done():  # cancelled
                continue
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
