"""A connection to Redis whose answers an event loop reads. So no thread waits for them."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from socket import socket
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.ledger.connection import PAUSE_SECONDS, Clients, OpenConnection

#: A command: its name and arguments.
Command = tuple[Any, ...]

#: The most that is read at once. A TLS record is shorter, so none is left half read. Bytes.
_BUFFER_BYTES = 64 * 1024
#: What hiredis returns for an answer that has not arrived whole.
_INCOMPLETE = object()


class LoopConnection:
    """Runs commands of the steps of one event loop. All calls come from the loop's thread.

    Commands that wait together share a round trip. This is for the normal case: who gets an error
    uses a client of `Clients`, which connects anew, and which knows what an error means.

    Args:
        loop: reads the answers.
        clients: opens the connection.
        most: commands in one round trip.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: Clients, most: int) -> None:
        self.loop = loop
        self._clients, self._most = clients, most
        self._open: OpenConnection | None = None
        #: A thread opens the connection, or it cannot be opened at all.
        self._opening = False
        #: Commands as the bytes of the protocol.
        self._waiting: list[tuple[bytes, asyncio.Future[Any]]] = []
        #: The commands of the round trip that have no answer.
        self._unanswered: deque[asyncio.Future[Any]] = deque()
        #: Ends the round trip.
        self._timer: asyncio.TimerHandle | None = None
        #: Bytes have come since the timer began.
        self._has_received = False

    def is_open(self) -> bool:
        """Return whether commands can be run. If not, a thread begins to open the connection."""
        if self._open and self._open.generation != self._clients.generation:
            self._fail(RedisConnectionError("it may lead to an old master"))
        if self._open is None and not self._opening:
            self._opening = True
            try:
                opening = self.loop.run_in_executor(None, self._clients.open_connection)
            except RuntimeError:  # there are too many threads. The executor keeps the call
                self.loop.call_later(PAUSE_SECONDS, self._may_open)
            else:
                opening.add_done_callback(self._opened)
        return self._open is not None

    def close(self) -> None:
        """Close the connection. The next use begins to open another one."""
        self._fail(RedisConnectionError("it leads to an old master"))

    def _may_open(self) -> None:
        self._opening = False

    def run(self, command: Command) -> asyncio.Future[Any]:
        """Run a command. The future has its answer. An error is an answer, too.

        Raises:
            TypeError, UnicodeEncodeError: the command cannot be written. Others are not concerned.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        self._waiting.append((hiredis.pack_command(command), future))
        if len(self._waiting) == 1 and not self._unanswered:
            self.loop.call_soon(self._send)
        return future

    def _opened(self, opening: asyncio.Future[OpenConnection | None]) -> None:
        if opening.exception():  # a client meets the same error, and knows what it means
            self._opening = False
            return
        self._open = opening.result()
        if self._open:  # otherwise the next attempt would have the same result
            self._opening = False
            self._reader = hiredis.Reader(encoding="utf-8", notEnoughData=_INCOMPLETE)
            self.loop.add_reader(self._open.socket.fileno(), self._read)

    def _send(self) -> None:
        """Begin a round trip, unless one is under way."""
        if self._unanswered or not self._waiting:
            return
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._unanswered = deque(future for _, future in taken)
        if self._open is None:
            self._fail(RedisConnectionError("the connection was closed"))
            return
        self._start_timer(self._open.socket)
        try:
            self._open.socket.sendall(b"".join([command for command, _ in taken]))
        except TimeoutError as error:  # Redis does not read
            self._fail(RedisTimeoutError(str(error)))
        except OSError as error:
            self._fail(RedisConnectionError(str(error)))

    def _start_timer(self, connection: socket) -> None:
        self._has_received = False
        self._timer = self.loop.call_later(connection.gettimeout() or 0, self._time_out)

    def _time_out(self) -> None:
        """End a round trip of which nothing has come in the time limit.

        A loop that was held may call this before it reads answers that are there.
        """
        if self._open and (self._has_received or _has_bytes(self._open.socket)):
            self._start_timer(self._open.socket)
        else:
            self._fail(RedisTimeoutError())

    def _read(self) -> None:
        """Take the answers that have arrived. The loop calls this when the socket has bytes.

        A part of a TLS record holds the loop until the rest has come.
        """
        try:
            if self._open:
                received = self._open.socket.recv(_BUFFER_BYTES)
                if not received:
                    raise OSError("Redis closed the connection")
                self._has_received = True
                self._reader.feed(received)
            while self._unanswered:
                answer = self._reader.gets()
                if answer is _INCOMPLETE:
                    return
                if not isinstance(answer, hiredis.PushNotification):
                    self._unanswered.popleft().set_result(answer)
            if self._reader.has_data():
                raise hiredis.ProtocolError("an answer that nobody waits for")
        except (OSError, ValueError, hiredis.ProtocolError) as error:
            self._fail(RedisConnectionError(str(error)))
        else:
            self._end()

    def _fail(self, error: RedisError) -> None:
        """Close the connection, and end a round trip. What waits for the next one ends, too."""
        if self._open:
            self.loop.remove_reader(self._open.socket.fileno())
            self._open.close()
            self._open = None
        for future in self._unanswered:
            future.set_result(error)
        self._unanswered.clear()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            future.set_result(RedisConnectionError("the connection was closed"))
        self._end()

    def _end(self) -> None:
        """End a round trip, and begin the next one."""
        if self._timer:
            self._timer.cancel()
        self._send()


def _has_bytes(connection: socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
