"""HTTP connections for all outgoing calls: one deadline, and a record of what was sent.

Each read and each write gets no more time than the whole call has left. A socket's own time-out
starts again with every byte, so a slow sender could stretch a call without end.

A connection finds its call in a thread-local variable, because neither requests nor urllib3 passes
extra arguments down to it.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from http.client import HTTPResponse, parse_headers
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from orchestrator.forks import renew_in_children
from orchestrator.net.guard import Address, Guard, Target, resolve

#: The interim status that ends HTTP on a connection. No answer follows it.
SWITCHING_PROTOCOLS = HTTPStatus.SWITCHING_PROTOCOLS


@dataclass(slots=True)
class ActiveCall:
    """The call that a thread is making.

    Args:
        ends: when the whole call ends, monotonic seconds.
        connect_timeout: seconds for connecting, name resolution and TLS included.
        guard: checks the addresses of the host; None connects to any address.
    """

    ends: float
    connect_timeout: float
    guard: Guard | None = None
    #: The call must not use a connection from the pool.
    fresh_connection: bool = False
    #: A connection was opened for this call.
    connected: bool = False
    #: The first byte of the request may have left this machine.
    sent: bool = False

    def seconds_left(self) -> float:
        """Return the seconds until the call ends.

        Raises:
            TimeoutError: the call has ended.
        """
        return _left(self.ends)


class _Thread(threading.local):
    call: ActiveCall


_thread = _Thread()


class Request(PreparedRequest):
    """A request to a checked target. Its URL is not parsed again."""

    target: Target


def prepared(method: str, target: Target, headers: Mapping[str, str]) -> Request:
    """Return a request without a body."""
    request = Request()
    request.method, request.url, request.target = method, target.url, target
    request.headers = CaseInsensitiveDict(headers)
    return request


@cache
def trusted_authorities() -> ssl.SSLContext:
    """Return the TLS context that checks certificates with the authorities that requests trusts.

    The whole process shares it: reading the authorities takes 40 ms and 1 MB.
    """
    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)


class DeadlineAdapter(HTTPAdapter):
    """requests' adapter on connections with a deadline: no proxies, no retries, no redirects.

    Calls use the adapter without a requests.Session. So no cookie is kept, no proxy or password of
    the environment is used, and a call costs half as much.

    Args:
        connections: idle connections kept for each host, and hosts that they are kept for.
        tls: checks certificates; by default with the authorities that requests trusts. All
            connections share it: otherwise each connection reads the file of authorities again.
    """

    def __init__(self, connections: int, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or trusted_authorities()
        self._connections = connections
        super().__init__(connections, connections)
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without connections, in the child of a fork: its parent uses them."""
        self.init_poolmanager(self._connections, self._connections)

    def exchange(self, request: Request, call: ActiveCall) -> Response:
        """Send a request, and return its answer once the headers are read.

        Raises:
            requests.RequestException, urllib3 HTTPError, OSError: there is no answer.
                `call.sent` says whether the request may have left this machine.
        """
        _thread.call = call
        call.connected = call.sent = False
        return self.send(request, stream=True)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools of our own connection classes."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        """Return the pool of a request's target."""
        target: Target = request.target
        return self.poolmanager.connection_from_host(target.host, target.port, target.scheme)

    def request_url(self, request: Any, proxies: Any) -> str:
        """Return the path for the request line."""
        path: str = request.target.path
        return path

    def build_response(self, req: Any, resp: Any) -> Response:
        """Return the answer without reading its cookies."""
        response = Response()
        response.status_code, response.headers = resp.status, CaseInsensitiveDict(resp.headers)
        response.raw = resp
        return response

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """No-op: the SSLContext is already configured."""


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Reader(io.RawIOBase):
    """Reads a socket in no more time than its call has left. Any thread may read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, call: ActiveCall) -> None:
        self._raw = raw
        self._sock = sock
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._call.seconds_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that is read within the call's deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, _thread.call))

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
        super().begin()
        # urllib3 logs the whole URL, with its query, when it finds a malformed header line.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Connection(HTTPConnection):
    """Connects to the addresses that the guard allows. The Host header keeps the name."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        call = _thread.call
        call.connected = True
        call.seconds_left()  # no name is resolved for a call that has ended
        ends = min(call.ends, time.monotonic() + call.connect_timeout)  # includes the resolution
        if call.guard:
            addresses: Sequence[Address] = call.guard.resolved(self.host, self.port)
        else:
            addresses = [Address.of(ip, self.port) for ip in resolve(self.host, self.port)]
        return _connected(addresses, ends)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        call = _thread.call
        self.sock.settimeout(call.seconds_left())  # one limit for all of the data, with TLS too
        call.sent = True
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same, after a TLS handshake for the name."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if _thread.call.fresh_connection:
            connection.close()  # the connection opens again by itself
        return connection


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _connected(addresses: Sequence[Address], ends: float) -> socket.socket:
    """Connect to one of the addresses. The socket's time-out is the time left, for TLS.

    An address that does not answer uses its share of the time only.
    """
    problem: OSError = TimeoutError()
    for tried, address in enumerate(addresses):
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(ends) / (len(addresses) - tried))
            sock.connect((address.ip, address.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_left(ends))
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


def innermost(error: BaseException) -> BaseException:
    """Return the error that requests or urllib3 wrapped, or the error itself.

    Its class name is safe to show. The text of the outer errors may hold the URL.
    """
    inner: BaseException | None = error
    while inner:
        error, inner = inner, _wrapped(inner)
    return error


def _wrapped(error: BaseException) -> BaseException | None:
    held = (error.__cause__, getattr(error, "reason", None), *error.args)
    return next((each for each in held if isinstance(each, BaseException)), None)
