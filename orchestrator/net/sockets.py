"""Connects sockets within a time limit, directly or through the outbound proxy."""

from __future__ import annotations

import re
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from orchestrator.net.guard import Address, resolve

#: The longest head of a proxy's answer. Bytes.
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


class ProxyRefused(OSError):
    """The outbound proxy opened no connection. The message says what it answered."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens connections with CONNECT.

    It is asked for public addresses only. A private address is connected to directly.
    """

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `http://[user:password@]host:port`.

        Raises:
            ValueError: the URL has another form.
        """
        parts = urlsplit(url)
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme != "http" or not parts.hostname or not parts.port or rest:
            raise ValueError
        return cls(
            parts.hostname, parts.port, unquote(parts.username or ""), unquote(parts.password or "")
        )

    @property
    def url(self) -> str:
        """The URL of the proxy, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def connect(self, address: Address, ends: float) -> socket.socket:
        """Return a socket that leads to an address.

        Args:
            address: a checked address. The proxy gets no name that it could resolve otherwise.
            ends: when it must be connected, monotonic seconds.

        Raises:
            OSError: there is no connection in time.
        """
        addresses = [Address.of(ip, self.port) for ip in resolve(self.host, self.port)]
        sock = connected(addresses, ends)
        try:
            sock.sendall(self._request(address))
            status = _status_of_answer(sock, ends)
            if not 200 <= status < 300:
                raise ProxyRefused(f"the outbound proxy answered {status}")
            sock.settimeout(seconds_left(ends))
        except BaseException:
            sock.close()
            raise
        return sock

    def _request(self, address: Address) -> bytes:
        place = f"[{address.ip}]" if ":" in address.ip else address.ip
        lines = [f"CONNECT {place}:{address.port} HTTP/1.1", f"Host: {place}:{address.port}"]
        if self.user or self.password:
            access = b64encode(f"{self.user}:{self.password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {access}")
        return "\r\n".join([*lines, "", ""]).encode()


def connected_through(
    proxy: Proxy | None, addresses: Sequence[Address], ends: float
) -> socket.socket:
    """Connect to one of the addresses: through the proxy if they are public.

    Raises:
        OSError: there is no connection in time.
    """
    if proxy and all(ip_address(address.ip).is_global for address in addresses):
        return proxy.connect(addresses[0], ends)
    return connected(addresses, ends)


def connected(addresses: Sequence[Address], ends: float) -> socket.socket:
    """Connect to one of the addresses. The socket's time-out is the time left, for TLS.

    An address that does not answer uses its share of the time only.

    Raises:
        OSError: there is no connection in time.
    """
    problem: OSError = TimeoutError()
    for tried, address in enumerate(addresses):
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds_left(ends) / (len(addresses) - tried))
            sock.connect((address.ip, address.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(seconds_left(ends))
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


def seconds_left(ends: float) -> float:
    """Return the time until `ends`, a time of the monotonic clock.

    Raises:
        TimeoutError: it is over.
    """
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _status_of_answer(sock: socket.socket, ends: float) -> int:
    """Read the head of the proxy's answer, past interim ones. No byte follows it before ours."""
    data = b""
    while True:
        head, end, rest = data.partition(_HEAD_END)
        if end:
            match = _STATUS.match(head)
            if match is None:
                raise ProxyRefused("the outbound proxy does not answer with HTTP/1.1")
            if int(match[1]) >= 200:
                return int(match[1])
            data = rest
            continue
        if len(data) > _MAX_HEAD_BYTES:
            raise ProxyRefused("the answer of the outbound proxy is too long")
        sock.settimeout(seconds_left(ends))
        received = sock.recv(4096)
        if not received:
            raise ProxyRefused("the outbound proxy closed the connection")
        data += received
