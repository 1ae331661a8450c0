"""Reads the bodies of requests in the event loop, so that a slow sender holds no thread.

A body is complete before the application reads it. A body that is large, or slow, is not waited for
in vain: the application is asked first without it. It may refuse the request by its token, its key
or its length. After such an early answer the connection is closed, because the rest of the body
would be taken for another request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from webhooks.exchange import Answer, Exchange

#: A body of up to this size is kept in memory, and is not asked about before it is slow. Bytes.
SMALL_BODY_BYTES = 64 * 1024
#: The part of a large body that is kept in memory. The rest is in a file. Bytes.
SPOOL_MEMORY_BYTES = 256 * 1024
#: Large bodies that a process reads at once.
MAX_LARGE_BODIES = 16
#: The longest wait of another large body. Seconds.
LARGE_WAIT_SECONDS = 10.0
#: A body that takes longer is slow. Seconds.
SLOW_SECONDS = 0.5
#: The application gets what has arrived after this time. It is more than a body of 10 MiB takes at
#: 200 kB/s. Seconds.
MAX_BODY_SECONDS = 60.0
#: Interval of the checks for slow bodies. Seconds.
CHECK_SECONDS = 0.25


class TooManyBodies(Exception):
    """So many large bodies are on their way that another one is not read."""


@dataclass(eq=False, slots=True)
class _Reading:
    """A body that is being read by a task."""

    exchange: Exchange
    task: asyncio.Task[None]
    began: float
    #: What has arrived.
    part: IO[bytes] = field(default_factory=BytesIO)
    #: The answer of the application without the body.
    early: asyncio.Task[Answer | None] | None = None
    #: The read was cancelled by us.
    stopped: bool = False


class RequestBodies:
    """Reads bodies.

    Args:
        loop: the event loop.
        max_bytes: what is read of a body at most. The limits of all routes are lower.
        ask_early: asks the application without the body. It returns None if the body is needed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_bytes: int,
        ask_early: Callable[[Exchange], Awaitable[Answer | None]],
    ) -> None:
        self._loop = loop
        self._max_bytes = max_bytes
        self._ask_early = ask_early
        self._readings: set[_Reading] = set()
        self._checking = False
        self._large = asyncio.Semaphore(MAX_LARGE_BODIES)

    async def read(self, exchange: Exchange) -> IO[bytes] | Answer:
        """Return the body, or what has arrived of it when it was cut off or took too long.

        It returns an answer instead, if the application gave one without the body.

        Raises:
            TooManyBodies: the body is large, and too many others are on their way.
        """
        if not exchange.length and not exchange.is_chunked:
            return BytesIO()
        task = cast("asyncio.Task[None]", asyncio.current_task())
        reading = _Reading(exchange, task, self._loop.time())
        self._readings.add(reading)
        self._check_later()
        try:
            if exchange.is_chunked or exchange.length > SMALL_BODY_BYTES:
                await self._read_large(reading)
            else:
                await self._take(reading)
        except asyncio.CancelledError:
            if not reading.stopped:
                reading.part.close()
                raise
            task.uncancel()
        finally:
            self._readings.discard(reading)
        if reading.early is not None and (answer := await reading.early):
            reading.part.close()
            return answer
        reading.part.seek(0)
        return reading.part

    async def _read_large(self, reading: _Reading) -> None:
        """Read a body into a file, unless the application answers without it."""
        reading.early = self._loop.create_task(self._early(reading))
        if await asyncio.shield(reading.early):
            return
        try:
            await asyncio.wait_for(self._large.acquire(), LARGE_WAIT_SECONDS)
        except TimeoutError:
            raise TooManyBodies from None
        try:
            reading.part = SpooledTemporaryFile(SPOOL_MEMORY_BYTES)  # noqa: SIM115  # the caller's
            await self._take(reading)
        finally:
            self._large.release()

    async def _take(self, reading: _Reading) -> None:
        size = 0
        while (part := await reading.exchange.read()) is not None:
            reading.part.write(part)
            size += len(part)
            if size > self._max_bytes:
                reading.exchange.closing = True
                return

    async def _early(self, reading: _Reading) -> Answer | None:
        """Ask the application without the body. End the read if it answers."""
        answer = await self._ask_early(reading.exchange)
        if answer and reading in self._readings:
            self._stop(reading)
        return answer

    def _check_later(self) -> None:
        if not self._checking:
            self._checking = True
            self._loop.call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        """Ask about slow bodies, and end those that take too long."""
        self._checking = False
        for reading in tuple(self._readings):
            seconds = self._loop.time() - reading.began
            if seconds > MAX_BODY_SECONDS:
                self._stop(reading)
            elif seconds > SLOW_SECONDS and reading.early is None:
                reading.early = self._loop.create_task(self._early(reading))
        if self._readings:
            self._check_later()

    def _stop(self, reading: _Reading) -> None:
        """End a read. Only then does the server close the connection after the answer."""
        if not reading.stopped:
            reading.stopped = reading.exchange.closing = True
            reading.task.cancel()
