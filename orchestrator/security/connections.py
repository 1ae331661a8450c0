"""Connections to addresses that the guard has just judged, and that are never late.

What a connection has to know of the call that it works for (the guard, and when the time is over)
stands with the thread. Each read and each write gets no more than the time that is left, so a
byte now and then does not make a call longer, as it does with a socket's time-out alone.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from orchestrator.security.guard import Address, Guard, Target


@dataclass(slots=True)
class Call:
    """A call that a thread makes. `ends` is in monotonic seconds, `connect_timeout` in seconds."""

    guard: Guard
    connect_timeout: float
    ends: float
    #: It may not use a connection from the pool.
    afresh: bool = False
    #: Its connection was made for it.
    connected: bool = False


class _Now(threading.local):
    """The call that this thread is making."""

    call: Call


_now = _Now()


def begin(call: Call) -> None:
    """Say that what this thread does from now on is for this call."""
    _now.call = call


class Request(PreparedRequest):
    """A request whose URL is not read again."""

    target: Target


class Adapter(HTTPAdapter):
    """requests' adapter with guarded connections: no proxies, no retries.

    Args:
        connections: idle connections kept for each host, and hosts that they are kept for.
        tls: what certificates are checked with. One for all: with requests' own way each
            connection reads the authorities' file anew.
    """

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        self._tls = tls
        # False rather than 0: the errors come as they are.
        super().__init__(connections, connections, max_retries=False)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools of our own kind."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        """The pool of a request's target."""
        target: Target = request.target
        return self.poolmanager.connection_from_host(target.host, target.port, target.scheme)

    def request_url(self, request: Any, proxies: Any) -> str:
        """What stands in the request line."""
        path: str = request.target.path
        return path

    def build_response(self, req: Any, resp: Any) -> Response:
        """The answer, with none of its cookies read."""
        response = Response()
        response.status_code, response.headers = resp.status, CaseInsensitiveDict(resp.headers)
        response.raw = resp
        return response

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: our TLS context has it all."""


def _left(ends: float) -> float:
    """Seconds that are left.

    Raises:
        TimeoutError: none are.
    """
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Reader(io.RawIOBase):
    """A socket's bytes, read in no more time than the call has left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(_now.call.ends))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that is read in time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        # Else urllib3 logs the whole URL, with its query, when a line of the headers is none.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Connection(HTTPConnection):
    """Connects to what the guard let through; the Host header keeps the name."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        call = _now.call
        call.connected = True
        _left(call.ends)  # no name is resolved for a call that is over
        addresses = call.guard.resolved(self.host, self.port)
        return _connected(addresses, min(call.ends, time.monotonic() + call.connect_timeout))

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(_left(_now.call.ends))  # for all of it, with TLS too
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same, with TLS for the name."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if _now.call.afresh:
            connection.close()  # it connects again by itself
        return connection


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _connected(addresses: Sequence[Address], ends: float) -> socket.socket:
    """A connection to one of the addresses. Its time-out is what is then left, for TLS.

    An address that does not answer takes its share of the time, not what the others need.
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
