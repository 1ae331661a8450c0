"""Bounds what slow senders can hold: the threads that real callbacks need.

The server hands a request over while its body is still on the way, and reading it holds a thread
for as long as the sender likes, or for ever if its network is gone. So few slow bodies are read at
once, and a connection that got no answer for long is cut.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

from orchestrator import log

#: How many bodies a process reads at once. With the requests that may wait for a job (the API's
#: MAX_WAITING) they leave one of the threads that the Procfile gives.
MOST = 3
#: How long another one waits for its turn; where all take longer, it does not wait. Seconds.
SLOW = 2.0
#: A connection on which nothing was sent for this long is cut: longer than the longest `?wait=`,
#: and than the largest body takes at 150 kB/s. Seconds.
LONGEST = 75.0
#: How often connections are looked at. Seconds.
LOOK = 5.0
#: Where `tcpi_last_data_sent` (ms ago) is in Linux' struct tcp_info, and how much of it is read.
_LAST_SENT, _INFO = 44, 104

Application = Callable[..., Iterable[bytes]]


class BodyReadLimiter:
    """A WSGI application whose requests' bodies are read with bounded patience."""

    def __init__(self, inner: Application, clock: Callable[[], float] = monotonic) -> None:
        self._inner = inner
        self._clock = clock
        #: A number for each body that may be read; a queue, as it costs less than a semaphore.
        self._turns: SimpleQueue[int] = SimpleQueue()
        for turn in range(MOST):
            self._turns.put(turn)
        #: By turn, when its read began; infinity: none is under way.
        self._began = [inf] * MOST
        self._refused = log.Flood("body_refused")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        environ["wsgi.input"] = _Body(environ["wsgi.input"], self)
        return self._inner(environ, start_response)

    def read(self, stream: Any, size: int) -> bytes:
        """Read from a body.

        Raises:
            ServiceUnavailable: the others are too slow.
        """
        try:
            turn = self._turns.get_nowait()
        except Empty:
            turn = self._wait()
        self._began[turn] = self._clock()
        try:
            data: bytes = stream.read(size)
        finally:
            self._began[turn] = inf
            self._turns.put(turn)
        return data

    def _wait(self) -> int:
        """The next turn."""
        if self._clock() - max(self._began) <= SLOW:  # not all are slow
            with suppress(Empty):
                return self._turns.get(timeout=SLOW)
        self._refused.warning("503", why="too many slow senders")
        raise ServiceUnavailable("too many slow senders: come again", retry_after=1)


class _Body:
    """`wsgi.input`, as far as werkzeug reads it."""

    def __init__(self, stream: Any, patience: BodyReadLimiter) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(65536), b""))
        return self._patience.read(self._stream, size)


def start_cutting() -> None:
    """Cut silent connections from now on, where the system tells of them (Linux)."""
    if sys.platform == "linux":
        threading.Thread(target=_cut_for_ever, name="patience", daemon=True).start()


def _cut_for_ever() -> None:
    never = threading.Event()
    while not never.wait(LOOK):
        cut = cut_silent(LONGEST)
        if cut:
            log.get().warning("connections_cut", number=cut, why=f"nothing sent for {LONGEST:g} s")


def cut_silent(longest: float) -> int:
    """Cut this process' incoming connections on which nothing was sent for `longest` seconds."""
    cut, ports = 0, set()
    for one in _sockets():
        with closing(one), suppress(OSError):
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.add(one.getsockname()[1])
    for one in _sockets():
        with closing(one), suppress(OSError, struct.error):
            one.getpeername()  # a listener has none
            if one.getsockname()[1] in ports and _silent_for(one) >= longest:
                one.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut


def _sockets() -> Iterator[socket.socket]:
    """This process' TCP sockets, as duplicates: the server's own may be closed meanwhile."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not files
        with suppress(OSError):
            duplicate = os.dup(int(name))
            try:
                found = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            if found.type == socket.SOCK_STREAM and found.family in (
                socket.AF_INET,
                socket.AF_INET6,
            ):
                yield found
            else:
                found.close()


def _silent_for(connection: socket.socket) -> float:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
    milliseconds: int = struct.unpack_from("=I", info, _LAST_SENT)[0]
    return milliseconds / 1000
