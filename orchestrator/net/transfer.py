"""One HTTP call by libcurl: what is asked, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, BinaryIO

import pycurl

from orchestrator.net.addresses import IpAddress, literal
from orchestrator.net.idle_sockets import IdleSockets

#: Failures of the outbound proxy that concern every host.
PROXY_AWAY = "the outbound proxy does not answer"
PROXY_UNKNOWN = "the name of the outbound proxy could not be resolved"
#: The answer of the outbound proxy is not HTTP, or ends too soon.
PROXY_FAILED = "the outbound proxy opened no connection"
#: libcurl's code of an answer with more or longer headers than it reads. pycurl has no name for it.
HEADERS_TOO_LONG = 100
#: What the errors of libcurl mean. Its own texts hold names and addresses of hosts.
REASONS: Mapping[int, str] = {
    pycurl.E_URL_MALFORMAT: "the URL is malformed",
    pycurl.E_COULDNT_RESOLVE_HOST: "the name of the host could not be resolved",
    pycurl.E_COULDNT_RESOLVE_PROXY: PROXY_UNKNOWN,
    pycurl.E_COULDNT_CONNECT: "the connection was not made",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "the TLS certificate is not trusted",
    pycurl.E_OPERATION_TIMEDOUT: "it took too long",
    pycurl.E_ABORTED_BY_CALLBACK: "the connection was closed without an answer",
    pycurl.E_GOT_NOTHING: "the connection was closed without an answer",
    pycurl.E_SEND_ERROR: "the connection broke while the request was sent",
    pycurl.E_RECV_ERROR: "the connection broke before the end of the answer",
    pycurl.E_PARTIAL_FILE: "the answer broke off",
    pycurl.E_BAD_CONTENT_ENCODING: "the answer has an unknown transfer coding",
    pycurl.E_FILESIZE_EXCEEDED: "the answer is too large",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the answer is not HTTP/1.1",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "the answer is not HTTP/1.1",
    HEADERS_TOO_LONG: "the headers of the answer are too long",
}
_STATUS_LINE = re.compile(rb"HTTP/[0-9.]+\s+([0-9]{3})\b")


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose URL and headers are checked. `body` is None for a request without one.

    Its repr leaves out what may hold an API key or a prompt.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    #: Use no idle connection: it could break after the request was sent.
    fresh_connection: bool = False
    #: Gets the body of an answer with status 200, as it was sent. Other bodies are not read.
    into: BinaryIO | None = field(default=None, repr=False)
    #: The body of the answer is dropped. It is read for this long, so that the connection can be
    #: used again. Seconds.
    drain_seconds: float | None = None
    #: The addresses of the host. Only these are connected to. None: libcurl resolves the name.
    addresses: tuple[str, ...] | None = None
    #: The end of the time limit, seconds of the monotonic clock. None: that of all calls.
    ends_at: float | None = None
    #: When there must be a connection, in the same way.
    connects_by: float | None = None


@dataclass(slots=True)
class Transfer:
    """What came of a request.

    Attributes:
        max_bytes: the largest answer that is read, unpacked.
        ends_at: the end of the time limit, seconds of the monotonic clock.
        repeatable: whether libcurl may send the request again by itself.
        idle: the idle connections of the process; None if none may be used.
        status: the status of the answer; 0 without one.
        headers: of the answer, with names in lower case.
        body: of the answer, unpacked.
        failure: why there is no whole answer; None if there is one.
        timed_out: the call ended by its time limit.
        too_large: the answer was larger than the limit.
        proxy_status: the status of the outbound proxy's answer; 0 without one.
        sent: the first byte of the request may have left this machine.
        answered: the status and the headers of the answer are complete.
        spoiled: nothing was sent, because the idle connection was closed or had bytes to read.
        addresses: that the connection may lead to; None: any.
        into: gets the body of an answer with status 200 in the place of `body`.
        drain_seconds: the body is dropped, and read for this long.
        limit: ends the call in this many seconds; None: `on_progress` does it.
        cut: the body of the answer was not read, or not to its end.
        refused: the outbound proxy answered that it opens no connection. The rest is not read:
            libcurl would read a body without an end, and stop for no time limit.
        file_error: what writing to the file raised.
        length: of the body that has arrived, bytes.
    """

    max_bytes: int
    ends_at: float
    repeatable: bool
    idle: IdleSockets | None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: bytearray = field(default_factory=bytearray, repr=False)
    failure: str | None = None
    timed_out: bool = False
    too_large: bool = False
    proxy_status: int = 0
    sent: bool = False
    answered: bool = False
    spoiled: bool = False
    addresses: frozenset[IpAddress] | None = None
    into: BinaryIO | None = field(default=None, repr=False)
    drain_seconds: float | None = None
    limit: Callable[[float], None] | None = field(default=None, repr=False)
    cut: bool = False
    refused: bool = False
    file_error: Exception | None = None
    length: int = 0
    _in_head: bool = False

    def on_header(self, line: bytes) -> int | None:
        """Take a header line of the answer. A wrong number of bytes ends the call.

        An interim answer is replaced by the next one. The answer of the proxy comes here, too:
        nothing was sent to the host before it. Lines after the body are dropped.
        """
        if not self._in_head:
            status = None if self.answered else _STATUS_LINE.match(line)
            if status:
                self._in_head, self.status = True, int(status[1])
                self.headers.clear()
            return None
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            before = self.headers.get(name)
            self.headers[name] = value if before is None else f"{before}, {value}"
        elif not name.strip():
            self._in_head = False
            self._end_head()
        return 0 if self.cut or self.refused else None

    def _end_head(self) -> None:
        switching = self.status == HTTPStatus.SWITCHING_PROTOCOLS
        self.answered = self.sent and (self.status >= HTTPStatus.OK or switching)
        if not self.answered:
            self.refused = not self.sent and self.status // 100 != 2
            return
        if self.into:
            has_body = self.headers.get("content-length") != "0"
            self.cut = has_body and self.status != HTTPStatus.OK
        elif self.drain_seconds is not None:
            self.cut = switching  # what follows is not HTTP
            self.ends_at = min(self.ends_at, monotonic() + self.drain_seconds)
            if self.limit:
                self.limit(self.drain_seconds)

    def on_connection(self, *ends: Any) -> int:
        """Note that a connection is ready, with TLS. libcurl sends the request next.

        This process may have been held up, so the time limit is checked here. libcurl sends a
        request again when an idle connection broke before the answer. It may do that only with a
        request that buys nothing.
        """
        self.answered = False  # what came over this connection is the answer of the proxy
        if monotonic() >= self.ends_at:
            self.timed_out = True
        elif self.addresses is not None and literal(ends[0]) not in self.addresses:
            self.spoiled = not self.sent  # an idle connection to an earlier address of the host
        elif self.idle and self.idle.spoiled(ends):
            self.spoiled = not self.sent
        elif self.repeatable or not self.sent:
            self.sent = True
            return int(pycurl.PREREQFUNC_OK)
        return int(pycurl.PREREQFUNC_ABORT)

    def on_body(self, chunk: bytes) -> int | None:
        """Take a part of the body. A wrong number of bytes ends the call."""
        self.length += len(chunk)
        if self.length > self.max_bytes:
            self.too_large = True
            return 0
        if self.drain_seconds is not None:
            return None
        if self.into is None:
            self.body += chunk
            return None
        try:
            self.into.write(chunk)
        except Exception as error:  # noqa: BLE001  # libcurl would drop it
            self.file_error = error
            return 0
        return None

    def on_progress(self, *_: int) -> int:
        """Return 1 to end a call whose answer is there and whose body takes too long.

        libcurl asks this at least once a second where it blocks the thread.
        """
        return int(self.answered and monotonic() >= self.ends_at)
