"""HTTP calls by libcurl: one deadline for the whole call, and a record of what was sent.

libcurl makes the calls of one event loop side by side, without a thread for each. Outside a step
loop a call blocks its thread. libcurl follows no redirect, keeps no cookie and uses no proxy or
password of the environment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import OK
from io import BytesIO
from ipaddress import ip_address
from time import monotonic
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pycurl

from orchestrator.forks import renew_in_children
from orchestrator.net.addresses import IpAddress, is_private
from orchestrator.net.content_encoding import BodyTruncated, DecodedTooLarge, codings, decode_file
from orchestrator.net.deadline import DEFAULT_CA_BUNDLE
from orchestrator.net.idle_sockets import IdleSockets
from orchestrator.net.loop_calls import DONE, LoopCalls
from orchestrator.net.sockets import Proxy
from orchestrator.step_loop import current_loop, in_thread, wait_for

#: Failures of the outbound proxy that concern every host.
PROXY_AWAY = "the outbound proxy does not answer"
PROXY_UNKNOWN = "the name of the outbound proxy could not be resolved"
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
}
#: The settings of every call.
_FIXED: Mapping[int, Any] = {
    pycurl.NOSIGNAL: 1,
    pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
    pycurl.PATH_AS_IS: 1,
}
#: No proxy, also none of the environment.
_DIRECTLY: Mapping[int, Any] = {pycurl.PROXY: ""}
#: The header lines of every call. Without the empty one, a long body waits a second for "100
#: Continue".
_LINES = (b"Accept-Encoding: gzip, deflate", b"Expect:")
#: The header lines of a call whose body goes to a file.
_FILE_LINES = (b"Accept-Encoding: identity", b"Expect:")
#: The most that is read from a socket at once. Bytes.
_BUFFER_BYTES = 256 * 1024
#: A longer encoded body is decoded in another thread, because that could take long. Bytes.
_LONG_BODY_BYTES = 16 * 1024


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
    #: The addresses of the host. Only these are connected to. None: libcurl resolves the name.
    addresses: tuple[str, ...] | None = None
    #: The end of the time limit, seconds of the monotonic clock. None: that of all calls.
    ends_at: float | None = None


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
        spoiled: nothing was sent, because the idle connection was closed or had bytes to read.
        addresses: of the host; None: any.
        into: gets the body of an answer with status 200 in the place of `body`.
        cut: the body of an answer with another status was not read.
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
    spoiled: bool = False
    addresses: frozenset[IpAddress] | None = None
    into: BinaryIO | None = field(default=None, repr=False)
    cut: bool = False
    file_error: Exception | None = None
    length: int = 0

    def on_header(self, line: bytes) -> None:
        """Take a header line. An interim answer is replaced by the next one."""
        if line.startswith(b"HTTP/"):
            self.headers.clear()
            self.status = int(line.split()[1])  # libcurl takes no other line
            return
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            before = self.headers.get(name)
            self.headers[name] = value if before is None else f"{before}, {value}"

    def on_connection(self, *ends: Any) -> int:
        """Note that a connection is ready, with TLS. libcurl sends the request next.

        This process may have been held up, so the time limit is checked here. libcurl sends a
        request again when an idle connection broke before the answer. It may do that only with a
        request that buys nothing.
        """
        if monotonic() >= self.ends_at:
            self.timed_out = True
        elif self.addresses is not None and ip_address(ends[0]) not in self.addresses:
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
        if self.into and self.status != OK:
            self.cut = True
            return 0
        if self.length > self.max_bytes:
            self.too_large = True
            return 0
        if self.into is None:
            self.body += chunk
            return None
        try:
            self.into.write(chunk)
        except Exception as error:  # noqa: BLE001  # libcurl would drop it
            self.file_error = error
            return 0
        return None


class Transfers:
    """Makes HTTP calls, and keeps their idle connections. All threads of a process share it.

    Args:
        connect_timeout: seconds for connecting, name resolution and TLS included.
        seconds: for the whole call.
        connections: idle connections kept for each host.
        ca_bundle: a file with the authorities that are trusted.
        proxy: opens the connections to hosts that are not private. None: they are opened directly.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        seconds: float,
        connections: int,
        ca_bundle: str = DEFAULT_CA_BUNDLE,
        proxy: Proxy | None = None,
    ) -> None:
        self._proxy_options = _proxy_options(proxy) if proxy else None
        self._options = {
            **_FIXED,
            pycurl.CAINFO: ca_bundle,
            pycurl.CONNECTTIMEOUT_MS: int(connect_timeout * 1000),
            pycurl.MAXCONNECTS: connections,
        }
        self._seconds = seconds
        self._connections = connections
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without connections, also in a child of a fork: its parent uses them."""
        self._of_thread = threading.local()
        self._of_hosts: dict[str, LoopCalls] = {}
        self._idle = IdleSockets()

    def exchange(self, request: Request, max_bytes: int) -> Transfer:
        """Make a call. Nothing is raised: the transfer says what came of it.

        Args:
            request: what to send.
            max_bytes: the largest answer that is read, unpacked.
        """
        ends_at = request.ends_at or monotonic() + self._seconds
        transfer = self._exchange(request, max_bytes, ends_at)
        if transfer.spoiled:
            transfer = self._exchange(replace(request, fresh_connection=True), max_bytes, ends_at)
        return transfer

    def _exchange(self, request: Request, max_bytes: int, ends_at: float) -> Transfer:
        idle = None if request.fresh_connection else self._idle
        transfer = Transfer(max_bytes, ends_at, request.method == "GET", idle, into=request.into)
        if request.addresses is not None:
            transfer.addresses = frozenset(map(ip_address, request.addresses))
        loop = current_loop()
        calls = self._calls_of(loop, request) if loop else None
        handle = calls.handle() if calls else self._handle_of_thread()
        try:
            self._prepare(handle, request, transfer)
        except (ValueError, pycurl.error):
            transfer.failure = "the request cannot be written as HTTP"
        else:
            code = wait_for(calls.start(handle)) if calls else _performed(handle, self._idle)
            _read(handle, code, transfer)
            is_unmade = transfer.failure == REASONS[pycurl.E_COULDNT_CONNECT]
            if is_unmade and self._way_to(request.url) is not _DIRECTLY:
                transfer.failure = PROXY_AWAY
            _decode(transfer)
        handle.reset()  # it would keep the request and the answer until its next call
        if calls:
            calls.free(handle)
        return transfer

    def _way_to(self, url: str) -> Mapping[int, Any]:
        """Return the options that say whether a connection is opened by the proxy."""
        if self._proxy_options is None or is_private(urlsplit(url).hostname or ""):
            return _DIRECTLY
        return self._proxy_options

    def _handle_of_thread(self) -> pycurl.Curl:
        if not hasattr(self._of_thread, "handle"):
            self._of_thread.handle = pycurl.Curl()
        handle: pycurl.Curl = self._of_thread.handle
        return handle

    def _calls_of(self, loop: asyncio.AbstractEventLoop, request: Request) -> LoopCalls:
        """Return the calls of a loop to the host of a request.

        libcurl resolves names in few threads for each `CurlMulti`. A host whose name is resolved
        slowly holds only its own. All hosts with known addresses share one.
        """
        host = "/".join(request.url.split("/", 3)[:3]) if request.addresses is None else ""
        calls = self._of_hosts.get(host)
        if calls is None or calls.loop is not loop:
            calls = self._of_hosts[host] = LoopCalls(loop, self._connections, self._idle)
        return calls

    def _prepare(self, handle: pycurl.Curl, request: Request, transfer: Transfer) -> None:
        for option, value in self._options.items():
            handle.setopt(option, value)
        left = max(1, int((transfer.ends_at - monotonic()) * 1000))
        handle.setopt(pycurl.TIMEOUT_MS, left)
        handle.setopt(pycurl.URL, request.url)
        for option, value in self._way_to(request.url).items():
            handle.setopt(option, value)
        lines = [_line(name, value) for name, value in request.headers.items()]
        handle.setopt(pycurl.HTTPHEADER, [*lines, *(_FILE_LINES if request.into else _LINES)])
        if request.body is not None:
            handle.setopt(pycurl.POSTFIELDS, request.body)
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
        if request.fresh_connection:
            handle.setopt(pycurl.FRESH_CONNECT, 1)
            handle.setopt(pycurl.FORBID_REUSE, 1)
        if request.into is not None:
            handle.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, transfer.max_bytes)
        if request.addresses is not None:
            handle.setopt(pycurl.RESOLVE, _pinned(request))
        handle.setopt(pycurl.PREREQFUNCTION, transfer.on_connection)
        handle.setopt(pycurl.HEADERFUNCTION, transfer.on_header)
        handle.setopt(pycurl.WRITEFUNCTION, transfer.on_body)


def _proxy_options(proxy: Proxy) -> Mapping[int, Any]:
    """Return libcurl's options for a proxy. It opens a tunnel for http:// URLs, too."""
    options: dict[int, Any] = {pycurl.PROXY: proxy.url, pycurl.HTTPPROXYTUNNEL: 1}
    options[pycurl.USERAGENT] = "image-orchestrator"
    if proxy.user or proxy.password:
        options |= {pycurl.PROXYUSERNAME: proxy.user, pycurl.PROXYPASSWORD: proxy.password}
    return options


def _pinned(request: Request) -> list[str]:
    """Return what libcurl takes for the addresses of the host. It resolves no name then."""
    parts, addresses = urlsplit(request.url), request.addresses or ()
    if parts.hostname in addresses:
        return []
    port = parts.port or (443 if parts.scheme == "https" else 80)
    listed = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
    return [f"{parts.hostname}:{port}:{listed}"]


def _line(name: str, value: str) -> bytes:
    """Return a header line.

    Raises:
        ValueError: it has a character that ends a line or that no header has.
    """
    line = f"{name}: {value}"
    if any(character in line for character in "\r\n\0"):
        raise ValueError("a header has a line break")
    return line.encode("latin-1")


def _performed(handle: pycurl.Curl, idle: IdleSockets) -> int:
    try:
        handle.perform()
    except pycurl.error as error:
        return int(error.args[0])
    idle.put(handle)
    return DONE


def _read(handle: pycurl.Curl, code: int, transfer: Transfer) -> None:
    transfer.status = handle.getinfo(pycurl.RESPONSE_CODE)
    transfer.proxy_status = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    if code != DONE:
        transfer.timed_out = transfer.timed_out or code == pycurl.E_OPERATION_TIMEDOUT
        transfer.too_large = transfer.too_large or code == pycurl.E_FILESIZE_EXCEEDED
        transfer.failure = REASONS.get(
            pycurl.E_OPERATION_TIMEDOUT if transfer.timed_out else code, f"libcurl's error {code}"
        )
        if transfer.proxy_status >= 300 and not transfer.sent:
            transfer.failure = f"the outbound proxy answered {transfer.proxy_status}"


def _decode(transfer: Transfer) -> None:
    """Decode the body of an answer. libcurl would refuse an answer with an unknown coding."""
    encoded = codings(transfer.headers.get("content-encoding", ""))
    if transfer.failure or not encoded or transfer.into:
        return
    file = BytesIO(transfer.body)
    action = partial(decode_file, file, encoded, max_bytes=transfer.max_bytes)
    try:
        if len(transfer.body) > _LONG_BODY_BYTES:
            in_thread(action)
        else:
            action()
    except BodyTruncated:
        transfer.failure = "the answer broke off"
    except DecodedTooLarge:
        transfer.too_large, transfer.failure = True, "the answer is too large"
    else:
        transfer.body = bytearray(file.getbuffer())
