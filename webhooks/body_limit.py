"""Limits how many slow request bodies are read at once, so that threads stay free for callbacks.

The server starts a request before its body has arrived. Reading the body then holds a thread for as
long as the sender takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

from orchestrator import log

#: Bodies that a process reads at once. Together with the requests that may wait for a job (the
#: API's MAX_WAITING) they leave one of the Procfile's threads free.
MAX_READS = 3
#: The longest wait of another body. When all current reads take longer, it fails at once. Seconds.
SLOW_READ_SECONDS = 2.0

Application = Callable[..., Iterable[bytes]]


class BodyReadLimiter:
    """A WSGI application that reads at most MAX_READS request bodies at once."""

    def __init__(self, inner: Application, clock: Callable[[], float] = monotonic) -> None:
        self._inner = inner
        self._clock = clock
        #: One number per allowed read. A queue costs less than a semaphore.
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(MAX_READS):
            self._slots.put(slot)
        #: Start time of the read of each slot; infinity when the slot is free.
        self._started = [inf] * MAX_READS
        self._refused = log.RateLimitedLog("body_refused")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        environ["wsgi.input"] = _Body(environ["wsgi.input"], self)
        return self._inner(environ, start_response)

    def read(self, stream: Any, size: int) -> bytes:
        """Read from a body.

        Raises:
            ServiceUnavailable: all other reads are too slow.
        """
        try:
            slot = self._slots.get_nowait()
        except Empty:
            slot = self._wait()
        self._started[slot] = self._clock()
        try:
            data: bytes = stream.read(size)
        finally:
            self._started[slot] = inf
            self._slots.put(slot)
        return data

    def _wait(self) -> int:
        """Return the next free slot."""
        if self._clock() - max(self._started) <= SLOW_READ_SECONDS:  # not all are slow
            with suppress(Empty):
                return self._slots.get(timeout=SLOW_READ_SECONDS)
        self._refused.warning("503", reason="too many slow senders")
        raise ServiceUnavailable("too many slow senders; send the request again", retry_after=1)


class _Body:
    """`wsgi.input`, as far as werkzeug uses it."""

    def __init__(self, stream: Any, limiter: BodyReadLimiter) -> None:
        self._stream = stream
        self._limiter = limiter

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(65536), b""))
        return self._limiter.read(self._stream, size)
