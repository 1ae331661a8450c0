"""HTTP calls by libcurl: one deadline for the whole call, and a record of what was sent.

libcurl makes the calls of one event loop side by side, without a thread for each. Outside a step
loop a call blocks its thread. libcurl follows no redirect, keeps no cookie and uses no proxy or
password of the environment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from ipaddress import ip_address
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pycurl
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from orchestrator.forks import renew_in_children
from orchestrator.net.addresses import is_private, literal
from orchestrator.net.content_encoding import BodyTruncated, DecodedTooLarge, codings, decode_file
from orchestrator.net.idle_sockets import IdleSockets
from orchestrator.net.loop_calls import DONE, LoopCalls
from orchestrator.net.proxy import Proxy
from orchestrator.net.transfer import PROXY_AWAY, PROXY_FAILED, REASONS, Request, Transfer
from orchestrator.step_loop import current_loop, in_thread, wait_for

#: The file with the authorities that requests trusts.
DEFAULT_CA_BUNDLE: str = DEFAULT_CA_BUNDLE_PATH
#: The settings of every call.
_FIXED: Mapping[int, Any] = {
    pycurl.NOSIGNAL: 1,
    pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
    pycurl.PATH_AS_IS: 1,
    pycurl.NOPROXY: "",  # no host of the environment's NO_PROXY goes around our proxy
}
#: The header lines of a call that does not have them. Without the empty ones, libcurl waits a
#: second for "100 Continue" before a long body, and calls a body without a type a form.
_LINES: Mapping[str, bytes] = {
    "accept-encoding": b"Accept-Encoding: gzip, deflate",
    "expect": b"Expect:",
    "content-type": b"Content-Type:",
}
#: The errors of a connection that breaks, or whose other side is no HTTP server.
_BROKEN = {
    *(pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR),
    *(pycurl.E_FTP_WEIRD_SERVER_REPLY, pycurl.E_UNSUPPORTED_PROTOCOL),
}
#: The most that is read from a socket at once. Bytes.
_BUFFER_BYTES = 256 * 1024
#: A longer encoded body is decoded in another thread, because that could take long. Bytes.
_LONG_BODY_BYTES = 16 * 1024


class Transfers:
    """Makes HTTP calls, and keeps their idle connections. All threads of a process share it.

    Args:
        connect_timeout: seconds for connecting, name resolution and TLS included.
        seconds: for the whole call.
        connections: idle connections kept for each host whose name libcurl resolves, and for all
            hosts with given addresses together.
        ca_bundle: a file with the authorities that are trusted.
        proxy: opens the connections to hosts that are not private. None: they are opened directly.
            It gets a given address, and otherwise the name of the host.
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
        idle, proxied = None if request.fresh_connection else self._idle, self._is_proxied(request)
        transfer = Transfer(
            max_bytes,
            ends_at,
            request.method == "GET",
            idle,
            into=request.into,
            drain_seconds=request.drain_seconds,
        )
        if request.addresses is not None and not proxied:
            transfer.addresses = frozenset(filter(None, map(literal, request.addresses)))
        loop = current_loop()
        calls = self._calls_of(loop, request) if loop else None
        handle = calls.handle() if calls else self._handle_of_thread()
        if calls:
            transfer.limit = partial(calls.limit, handle)
        try:
            self._prepare(handle, request, transfer)
            for option, value in self._way_to(request, proxied=proxied).items():
                handle.setopt(option, value)
        except (ValueError, pycurl.error):
            transfer.failure = "the request cannot be written as HTTP"
        else:
            code = wait_for(calls.start(handle)) if calls else _performed(handle, self._idle)
            _read(handle, code, transfer, proxied=proxied)
            _decode(transfer)
        transfer.limit = None
        handle.reset()  # it would keep the request and the answer until its next call
        if calls:
            calls.free(handle)
        return transfer

    def _is_proxied(self, request: Request) -> bool:
        """Return whether the proxy opens the connection: the host is not private."""
        if self._proxy_options is None:
            return False
        if request.addresses is None:
            return not is_private(urlsplit(request.url).hostname or "")
        return all(ip_address(address).is_global for address in request.addresses)

    def _way_to(self, request: Request, *, proxied: bool) -> Mapping[int, Any]:
        """Return the options that say where a connection goes."""
        if not proxied or self._proxy_options is None:
            pinned = {pycurl.RESOLVE: _pinned(request)} if request.addresses is not None else {}
            return {pycurl.PROXY: "", **pinned}  # no proxy, also none of the environment
        if request.addresses is None:
            return self._proxy_options
        return {**self._proxy_options, pycurl.CONNECT_TO: [_tunnel_end(request)]}

    def _handle_of_thread(self) -> pycurl.Curl:
        if not hasattr(self._of_thread, "handle"):
            self._of_thread.handle = pycurl.Curl()
        handle: pycurl.Curl = self._of_thread.handle
        return handle

    def _calls_of(self, loop: asyncio.AbstractEventLoop, request: Request) -> LoopCalls:
        """Return the calls of a loop to the host of a request. A thread has one loop at a time.

        libcurl resolves names in few threads for each `CurlMulti`. A host whose name is resolved
        slowly holds only its own. All hosts with known addresses share one.
        """
        if getattr(self._of_thread, "loop", None) is not loop:
            self._of_thread.loop, self._of_thread.hosts = loop, {}
        hosts: dict[str, LoopCalls] = self._of_thread.hosts
        host = "/".join(request.url.split("/", 3)[:3]) if request.addresses is None else ""
        calls = hosts.get(host)
        if calls is None:
            calls = hosts[host] = LoopCalls(loop, self._connections, self._idle)
        return calls

    def _prepare(self, handle: pycurl.Curl, request: Request, transfer: Transfer) -> None:
        for option, value in self._options.items():
            handle.setopt(option, value)
        handle.setopt(pycurl.TIMEOUT_MS, _ms_until(transfer.ends_at))
        if request.connects_by is not None:
            handle.setopt(pycurl.CONNECTTIMEOUT_MS, _ms_until(request.connects_by))
        handle.setopt(pycurl.URL, request.url)
        names = {name.lower() for name in request.headers}
        lines = [line for name, line in _LINES.items() if name not in names]
        lines += [_line(name, value) for name, value in request.headers.items()]
        handle.setopt(pycurl.HTTPHEADER, lines)
        if request.body is not None:
            handle.setopt(pycurl.POSTFIELDS, request.body)
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
        if request.fresh_connection:
            handle.setopt(pycurl.FRESH_CONNECT, 1)
            handle.setopt(pycurl.FORBID_REUSE, 1)
        if request.into is not None:
            handle.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, transfer.max_bytes)
        if request.drain_seconds is not None and transfer.limit is None:
            handle.setopt(pycurl.NOPROGRESS, 0)
            handle.setopt(pycurl.XFERINFOFUNCTION, transfer.on_progress)
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
    """Return what libcurl takes for the addresses of the host. It resolves no name then.

    The plus lets libcurl forget the addresses after a minute. Each call gives them anew.
    """
    parts, addresses = urlsplit(request.url), request.addresses or ()
    if parts.hostname in addresses:
        return []
    listed = ",".join(map(_bracketed, addresses))
    return [f"+{parts.hostname}:{_port(request)}:{listed}"]


def _tunnel_end(request: Request) -> str:
    """Return where the proxy is to connect to: the first of the addresses, instead of any name.

    libcurl uses an idle tunnel again only for the same address and the same name.
    """
    address, *_ = request.addresses or ()
    return f"::{_bracketed(address)}:{_port(request)}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _port(request: Request) -> int:
    parts = urlsplit(request.url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _ms_until(time: float) -> int:
    """Return the time until then for libcurl, to which 0 means no limit. ms."""
    return max(1, int((time - monotonic()) * 1000))


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


def _read(handle: pycurl.Curl, code: int, transfer: Transfer, *, proxied: bool) -> None:
    transfer.status = handle.getinfo(pycurl.RESPONSE_CODE)
    transfer.proxy_status = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    transfer.answered = transfer.answered and transfer.status > 0
    if code == DONE:
        return
    transfer.timed_out = transfer.timed_out or code == pycurl.E_OPERATION_TIMEDOUT
    transfer.too_large = transfer.too_large or code == pycurl.E_FILESIZE_EXCEEDED
    transfer.failure = REASONS.get(
        pycurl.E_OPERATION_TIMEDOUT if transfer.timed_out else code, f"libcurl's error {code}"
    )
    if proxied and not transfer.sent:
        transfer.failure = _proxy_failure(code, transfer.proxy_status) or transfer.failure


def _proxy_failure(code: int, status: int) -> str | None:
    """Return why the proxy opened no connection, or None if it did, or may have."""
    if status and not 200 <= status < 300:
        return f"the outbound proxy answered {status}"
    if code == pycurl.E_COULDNT_CONNECT:
        return PROXY_AWAY
    return PROXY_FAILED if status == 0 and code in _BROKEN else None


def _decode(transfer: Transfer) -> None:
    """Decode the body of an answer. libcurl would refuse an answer with an unknown coding."""
    encoded = codings(transfer.headers.get("content-encoding", ""))
    dropped = transfer.into or transfer.drain_seconds is not None
    if transfer.failure or not encoded or dropped:
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
