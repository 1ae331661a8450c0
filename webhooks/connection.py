"""An incoming connection: what uvicorn does not limit.

A client may send the head of a request slowly or without end, send many requests before it reads an
answer, or never read an answer. Uvicorn itself closes connections that are idle between requests.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from contextlib import suppress
from http import HTTPStatus
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from orchestrator import log

#: Connections that one process serves at once. With more, requests are answered 503.
MAX_CONNECTIONS = 4096
#: The longest time from the first byte of a request to the end of its head, and from the start of a
#: connection to the end of its first head. It may take twice as long until it is seen. Seconds.
HEAD_SECONDS = 10.0
#: The largest head of a request, and its target in it. Trailers may be as large as a head. Bytes.
MAX_HEAD_BYTES, MAX_TARGET_BYTES = 256 * 1024, 64 * 1024
MAX_HEADERS = 100
#: Requests of one connection that may wait for the answer to the one before them.
MAX_PIPELINED = 16
#: A connection is closed when its client reads nothing of an answer for so long. Seconds.
UNREAD_SECONDS = 75.0
#: The same while the process ends, because it waits for its connections. It may take twice as long
#: until it is seen. Seconds.
STOP_UNREAD_SECONDS = 10.0
#: After a refusal, what still comes is dropped for so long. The client could not read the refusal
#: otherwise. Seconds.
REFUSED_SECONDS = 2.0

#: The versions of HTTP that are read. HTTP/0.9 has no headers, and HTTP/2 has another form.
VERSIONS = ("1.1", "1.0")
#: How an interim answer begins. A client that expects it sends its body then.
_CONTINUE = b"HTTP/1.1 100 "

_closed = log.RateLimitedLog("connection_closed")


class _Refused(Exception):
    """A request is not given to the application."""


class Connection(HttpToolsProtocol):
    """A connection of one client. The arguments are uvicorn's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._status = HTTPStatus.BAD_REQUEST
        self._is_refused = self._is_stopping = False
        #: The request that the application answers.
        self._current: RequestResponseCycle | None = None
        #: What has arrived of a head or of trailers. None: a body is arriving.
        self._head_bytes: int | None = 0
        #: When the head that is being received began. None: none is.
        self._head_began: float | None = self.loop.time()
        #: What the client has not read of the answers, and since when that has not changed.
        self._unread, self._unread_since = 0, 0.0
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._check.cancel()
        self._unset_keepalive_if_required()  # uvicorn's timer would keep a broken one in memory
        super().connection_lost(exc)
        if self._current:
            _end(self._current)  # uvicorn tells the newest request alone, which may wait behind it

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except HttpParserError:
            self._refuse(self._status)
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_began = self.loop.time()

    def on_headers_complete(self) -> None:
        """Give the request to the application.

        Raises:
            _Refused: its head is over a limit, or its version is not known.
        """
        self._head_began = self._head_bytes = None
        if status := self._fault():
            self._status = status
            raise _Refused
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.headers = []  # trailers, which follow a body in chunks, are no headers

    def on_chunk_header(self) -> None:
        """Note the start of a chunk. The last one has trailers in place of content."""
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._head_bytes = None
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a body."""
        self._head_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _decline(self, rest: bytes) -> None:
        """Take a request without its offer of another protocol.

        Its parser takes the body for that protocol, so its head is parsed again without the offer.
        """
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current = cycle
        if app is not self.app:  # too many connections: uvicorn would answer without a log line
            app = self.app.refuse
        if cycle.scope["method"] != "HEAD":  # uvicorn writes nothing after its head
            cycle.transport = cast("asyncio.Transport", _JoinedWrites(self.transport))
        super()._start_asgi_task(cycle, app)

    def resume_writing(self) -> None:
        """Send more, because the client has read something."""
        super().resume_writing()
        self._unread = 0

    def shutdown(self) -> None:
        """Close when the current answer is sent. Held answers are given now."""
        self.app.stop()
        self._is_stopping = True
        super().shutdown()

    def _fault(self) -> HTTPStatus | None:
        """Return why the application does not get a request."""
        if self.parser.get_method() == b"CONNECT":
            return HTTPStatus.METHOD_NOT_ALLOWED
        if self.parser.get_http_version() not in VERSIONS:
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        if len(self.url) > MAX_TARGET_BYTES:
            return HTTPStatus.REQUEST_URI_TOO_LONG
        if len(self.headers) > MAX_HEADERS or len(self.pipeline) >= MAX_PIPELINED:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer what cannot be read, unless other answers are due. Close the connection."""
        if self._is_refused:
            return
        self._is_refused, self._head_began = True, None
        current = self._current
        if current and not current.response_complete:
            if not current.more_body:  # all requests before the refused one are still answered
                if self.cycle.more_body:
                    self.pipeline.popleft()
                last = self.pipeline[0][0] if self.pipeline else current
                last.keep_alive = False
                return
            _end(current)
            if current.response_started:
                self.transport.close()  # a refusal would be taken for a part of that answer
                return
        text = f"{status.value} {status.phrase}"
        lines = f"HTTP/1.1 {text}", "content-type: text/plain", f"content-length: {len(text)}"
        self.transport.write("\r\n".join([*lines, "connection: close", "", text]).encode())
        self.transport.write_eof()
        self.loop.call_later(REFUSED_SECONDS, self.transport.close)

    def _check_later(self) -> None:
        self._check = self.loop.call_later(HEAD_SECONDS, self._close_or_check_later)

    def _close_or_check_later(self) -> None:
        reason = self._reason_to_close(self.loop.time())
        if reason:
            _closed.warning(reason, reason=reason)
            self.transport.abort()
        else:
            self._check_later()

    def _reason_to_close(self, now: float) -> str | None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._head_began is not None and not is_idle:
            self._head_began = now  # its time counts from the answer to the request before it
        if self._head_began is not None and now - self._head_began >= HEAD_SECONDS:
            return f"a request took more than {HEAD_SECONDS:g} s to arrive"
        unread, limit = self._unread_bytes(), UNREAD_SECONDS
        if self._is_stopping:
            limit = STOP_UNREAD_SECONDS
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since >= limit:
            return f"nothing of an answer was read for {limit:g} s"
        if self.transport.is_closing():
            return None  # the rest of an answer is sent before
        if is_idle and self._head_began is None and self.timeout_keep_alive_task is None:
            self._head_began = now  # it sent line ends, which are no request
        return None

    def _unread_bytes(self) -> int:
        """Return what the client has not received of what must still be given to the system.

        The system takes more only when the client has received much of what it has. On Linux it
        says how much that is, so a client that reads slowly is seen to read.
        """
        unread = self.transport.get_write_buffer_size()
        if unread:
            with suppress(OSError):
                number = self.transport.get_extra_info("socket").fileno()
                kept = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))
                unread += int.from_bytes(kept, sys.byteorder)
        return unread


class _JoinedWrites:
    """What uvicorn uses of a transport. It writes a head and what follows it in one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""
        self.is_closing = transport.is_closing
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Write a head with the next part, and all other parts at once."""
        if self._head is None:
            self._transport.write(data)
        elif self._head:
            self._transport.write(self._head + data)
            self._head = None
        elif data.startswith(_CONTINUE):
            self._transport.write(data)
        else:
            self._head = data


def _end(cycle: RequestResponseCycle) -> None:
    """Tell the application that its client has gone away. What it answers is not sent."""
    cycle.disconnected = True
    cycle.message_event.set()
