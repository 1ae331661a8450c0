"""HTTP connections with one deadline for a whole call. Idle ones are used again.

Each read and each write gets no more time than the whole call has left. A socket's own time-out
starts again with every byte, so a slow sender could stretch a call without end.

http.client does the HTTP. A call costs a third of one by requests and urllib3, which parse its URL
again, keep cookies, and build objects that nobody needs here.
"""

from __future__ import annotations

import io
import re
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from http import HTTPStatus
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPMessage,
    HTTPResponse,
    IncompleteRead,
    parse_headers,
)
from types import TracebackType
from typing import Any, Self

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from orchestrator.forks import renew_in_children
from orchestrator.net.guard import Guard, Target
from orchestrator.net.sockets import Proxy, connected_through, seconds_left

#: The file with the authorities that requests trusts.
DEFAULT_CA_BUNDLE: str = DEFAULT_CA_BUNDLE_PATH
#: The interim status that ends HTTP on a connection. No answer follows it.
SWITCHING_PROTOCOLS = HTTPStatus.SWITCHING_PROTOCOLS


@dataclass(slots=True)
class ActiveCall:
    """A call that is being made.

    Args:
        ends: when the whole call ends, monotonic seconds.
        connect_timeout: seconds for connecting, name resolution and TLS included.
        guard: checks the addresses of the host.
    """

    ends: float
    connect_timeout: float
    guard: Guard
    #: The call must not use an idle connection.
    fresh_connection: bool = False
    #: A connection was opened for this call.
    connected: bool = False

    def seconds_left(self) -> float:
        """Return the seconds until the call ends.

        Raises:
            TimeoutError: the call has ended.
        """
        return seconds_left(self.ends)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a checked target."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None = None


@cache
def trusted_authorities(ca_bundle: str = DEFAULT_CA_BUNDLE) -> ssl.SSLContext:
    """Return the TLS context that checks certificates with the authorities in a file.

    By default they are those that requests trusts. The whole process shares the context: reading
    the authorities takes 40 ms and 1 MB.
    """
    return ssl.create_default_context(cafile=ca_bundle)


class Connections:
    """Connections to any host. All threads of a process share it.

    Args:
        number: idle connections kept for each host, and hosts that they are kept for.
        tls: checks certificates; by default with the authorities that requests trusts. All
            connections share it: otherwise each connection reads the file of authorities again.
        proxy: opens the connections to public addresses. None: they are opened directly.
    """

    def __init__(
        self, number: int, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None
    ) -> None:
        self._tls = tls or trusted_authorities()
        self._proxy = proxy
        self._number = number
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without connections, in the child of a fork: its parent uses them."""
        self._lock = threading.Lock()
        #: The idle connections by scheme, host and port. The host that was used last is the last.
        self._idle: OrderedDict[_Place, list[_Connection]] = OrderedDict()

    def exchange(self, request: Request, call: ActiveCall) -> Response:
        """Send a request, and return its answer once the headers are read.

        Raises:
            http.client.HTTPException, OSError: there is no answer.
            Forbidden: the guard refuses an address of the host.
        """
        call.connected = False
        target = request.target
        place = (target.scheme, target.host, target.port)
        connection = (None if call.fresh_connection else self._take(place)) or self._new(place)
        connection.begin(call)
        try:
            headers = dict(request.headers)
            connection.request(request.method, target.path, request.body, headers)
            return Response(connection.getresponse(), partial(self._give_back, place, connection))
        except BaseException:
            connection.close()
            raise

    def _new(self, place: _Place) -> _Connection:
        scheme, host, port = place
        if scheme == "https":
            return _TlsConnection(host, port, self._proxy, self._tls)
        return _Connection(host, port, self._proxy)

    def _take(self, place: _Place) -> _Connection | None:
        """Return an idle connection, or None. One that the other side closed is left out."""
        while True:
            with self._lock:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            if connection is None or connection.is_quiet():
                return connection
            connection.close()

    def _give_back(self, place: _Place, connection: _Connection, *, reusable: bool) -> None:
        """Keep a connection after its answer was read, or close it."""
        unwanted = [] if reusable else [connection]
        if reusable:
            with self._lock:
                idle = self._idle.setdefault(place, [])
                self._idle.move_to_end(place)
                idle.append(connection)
                unwanted = [idle.pop(0)] if len(idle) > self._number else []
                if len(self._idle) > self._number:
                    unwanted += self._idle.popitem(last=False)[1]
        for each in unwanted:
            each.close()


@dataclass(slots=True)
class Response:
    """The answer to a request. Its end gives the connection back, if the body was read whole."""

    _raw: HTTPResponse
    _give_back: Any
    status: int = field(init=False)
    headers: HTTPMessage = field(init=False)

    def __post_init__(self) -> None:
        self.status, self.headers = self._raw.status, self._raw.headers

    @property
    def bytes_left(self) -> int | None:
        """The length of the rest of the body; None: the answer does not say it."""
        return self._raw.length

    def read1(self, size: int) -> bytes:
        """Return the next bytes of the body, at most `size`; none at its end.

        Raises:
            http.client.HTTPException, OSError: the body broke off, or came too late.
        """
        data = self._raw.read1(size)
        if not data and self._raw.length:
            raise IncompleteRead(b"", self._raw.length)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raw = self._raw
        whole = raw.isclosed() or raw.length == 0
        raw.close()
        http = self.status != SWITCHING_PROTOCOLS and not raw.will_close
        self._give_back(reusable=whole and http and error is None)


class InvalidHeader(HTTPException):
    """The answer has a header that contradicts itself."""


class _Reader(io.RawIOBase):
    """Reads a socket in no more time than its call has left. Any thread may read."""

    def __init__(self, sock: socket.socket, call: ActiveCall) -> None:
        self._raw: Any = sock.makefile("rb", 0)
        self._sock = sock
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._call.seconds_left())
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Readable:
    """The socket of an answer, as http.client wants it."""

    def __init__(self, sock: socket.socket, call: ActiveCall) -> None:
        self._sock = sock
        self._call = call

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._call))


class _Response(HTTPResponse):
    """An answer that is read within the call's deadline."""

    def __init__(self, call: ActiveCall, sock: socket.socket, **options: Any) -> None:
        super().__init__(_Readable(sock, call), **options)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """Read past every interim answer. http.client reads past "100 Continue" only.

        An interim answer that is taken for the final one leaves the final one on the connection,
        and the next request on it gets that answer.
        """
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 < status < 200 or status == SWITCHING_PROTOCOLS:
                return version, status, reason
            parse_headers(self.fp)

    def begin(self) -> None:
        """Read status and headers. Two lengths that differ are refused, and "5, 5" is 5."""
        super().begin()
        texts = self.headers.get_all("Content-Length", [])
        lengths = {part.strip() for text in texts for part in text.split(",")}
        if len(lengths) > 1:
            raise InvalidHeader("Content-Length")
        length = lengths.pop() if lengths else ""
        if self.length is None and not self.chunked and re.fullmatch("[0-9]{1,18}", length):
            self.length = int(length)


#: Scheme, host and port.
_Place = tuple[str, str, int]


class _Connection(HTTPConnection):
    """Connects to the addresses that the guard allows. The Host header keeps the name."""

    _call: ActiveCall

    def __init__(self, host: str, port: int, proxy: Proxy | None) -> None:
        super().__init__(host, port)
        self._proxy = proxy

    def begin(self, call: ActiveCall) -> None:
        """Make the next request for a call."""
        self._call = call
        self.response_class = partial(_Response, call)  # type: ignore[assignment]

    def __del__(self) -> None:
        self.close()

    def connect(self) -> None:
        call = self._call
        call.connected = True
        call.seconds_left()  # no name is resolved for a call that has ended
        ends = min(call.ends, time.monotonic() + call.connect_timeout)  # includes the resolution
        addresses = call.guard.resolved(self.host, self.port)
        self.sock = connected_through(self._proxy, addresses, ends)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self._call.seconds_left())  # for all of the data, with TLS too
        super().send(data)

    def is_quiet(self) -> bool:
        """Return whether the other side has neither closed the connection nor sent more bytes."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class _TlsConnection(_Connection):
    """The same, after a TLS handshake for the name."""

    default_port = 443

    def __init__(self, host: str, port: int, proxy: Proxy | None, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, proxy)
        self._tls = tls

    def connect(self) -> None:
        super().connect()
        plain = self.sock
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
