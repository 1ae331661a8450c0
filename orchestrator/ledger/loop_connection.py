"""A connection to Redis whose answers an event loop reads. So no thread waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.ledger.connection import Clients, OpenConnection

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
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        #: The commands of the round trip that have no answer.
        self._unanswered: deque[asyncio.Future[Any]] = deque()
        #: Ends the round trip.
        self._timer: asyncio.TimerHandle | None = None

    def is_open(self) -> bool:
        """Return whether commands can be run. If not, a thread begins to open the connection."""
        if self._open and self._open.generation != self._clients.generation:
            self._fail(RedisConnectionError("it may lead to an old master"))
        if self._open is None and not self._opening:
            with suppress(RuntimeError):  # there are too many threads
                opening = self.loop.run_in_executor(None, self._clients.open_connection)
                opening.add_done_callback(self._opened)
                self._opening = True
        return self._open is not None

    def run(self, command: Command) -> asyncio.Future[Any]:
        """Run a command. The future has its answer. An error is an answer, too."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._waiting.append((command, future))
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
        connection = self._open.socket
        self._timer = self.loop.call_later(
            connection.gettimeout() or 0, self._fail, RedisTimeoutError()
        )
        try:
            connection.sendall(b"".join([hiredis.pack_command(command) for command, _ in taken]))
        except OSError as error:
            self._fail(RedisConnectionError(str(error)))

    def _read(self) -> None:
        """Take the answers that have arrived. The loop calls this when the socket has bytes.

        A part of a TLS record holds the loop until the rest has come.
        """
        try:
            if self._open:
                received = self._open.socket.recv(_BUFFER_BYTES)
                if not received:
                    raise OSError("Redis closed the connection")
                self._reader.feed(received)
            while self._unanswered:
                answer = self._reader.gets()
                if answer is _INCOMPLETE:
                    return
                self._unanswered.popleft().set_result(answer)
            if self._reader.has_data():
                raise hiredis.ProtocolError("an answer that nobody waits for")
        except (OSError, ValueError, hiredis.ProtocolError) as error:
            self._fail(RedisConnectionError(str(error)))
        else:
            self._end()

    def _fail(self, error: RedisError) -> None:
        """Close the connection, and end a round trip."""
        if self._open:
            self.loop.remove_reader(self._open.socket.fileno())
            self._open.connection.disconnect()
            self._open = None
        for future in self._unanswered:
            future.set_result(error)
        self._unanswered.clear()
        self._end()

    def _end(self) -> None:
        """End a round trip, and begin the next one."""
        if self._timer:
            self._timer.cancel()
        self._send()
