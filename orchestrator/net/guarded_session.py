"""HTTP requests to URLs that somebody else chose: image links and notify URLs.

`Forbidden` is raised for a URL that must not be called, `RequestFailed` when there is no good
answer, and its subclass `TooLarge` when another try has the same result.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from typing import Any, BinaryIO

from requests import PreparedRequest

from orchestrator.net.deadline import (
    DEFAULT_CA_BUNDLE,
    ActiveCall,
    Connections,
    Request,
    Response,
)
from orchestrator.net.downloads import Downloads, Wanted
from orchestrator.net.fetched_body import (
    HEADERS,
    MAX_REDIRECTS,
    REDIRECTS,
    FetchedBody,
    RequestFailed,
    TooLarge,
    decoded,
    joined,
    media_type,
    too_large,
)
from orchestrator.net.guard import Forbidden, Guard, Target
from orchestrator.net.http_types import retry_after_seconds
from orchestrator.net.sockets import Proxy, ProxyRefused
from orchestrator.step_loop import current_loop, in_thread

__all__ = ["FetchedBody", "Forbidden", "GuardedSession", "PostAnswer", "RequestFailed", "TooLarge"]

#: The size of the parts in which a body is read. Bytes.
_CHUNK_BYTES = 256 * 1024
#: The answer to a POST is read up to these limits, so that its connection can be used again.
_MAX_DRAINED_BYTES = 64 * 1024
_MAX_DRAIN_SECONDS = 1.0
_HEADERS = {**HEADERS, "Accept-Encoding": "identity"}


class _ConnectionStale(RequestFailed):
    """A pooled connection closed before an answer was read."""


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """The HTTP answer to a POST. `retry_after` is in seconds, at most an hour."""

    status: int
    retry_after: float | None


class GuardedSession:
    """Pooled connections to every URL that the guard allows. All threads of a process share it.

    No cookie is kept, and no proxy or password of the environment is used.

    Args:
        guard: the rules.
        connect_timeout: seconds for connecting, TLS included.
        connections: the most idle connections per host, and the most hosts with idle connections.
        tls: checks certificates; None uses the authorities that requests trusts.
        ca_bundle: the file with the same authorities, for `fetch` in a step loop.
        proxy: opens the connections to public addresses. The guard checks an address before.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        connect_timeout: float,
        connections: int = 32,
        tls: ssl.SSLContext | None = None,
        ca_bundle: str = DEFAULT_CA_BUNDLE,
        proxy: Proxy | None = None,
    ) -> None:
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._connections = Connections(connections, tls, proxy)
        self._downloads = None if proxy else Downloads(guard, connect_timeout, ca_bundle)

    def check(self, url: str, *, plain_http: bool = False) -> None:
        """Check a URL as it is written, without DNS.

        Raises:
            Forbidden: `fetch` would never call the URL.
        """
        self._guard.target(url, plain_http=plain_http)

    def fetch(
        self,
        url: str,
        into: BinaryIO,
        *,
        seconds: float,
        max_bytes: int,
        plain_http: bool = False,
        run: Callable[[Callable[[], Any]], Any] = in_thread,
    ) -> FetchedBody:
        """GET a URL and write the body of its answer. The status must be 200.

        In a step loop, other steps run meanwhile. At most 5 redirects are followed. Each target is
        checked like the first URL. After an error `into` may hold a part of a body.

        Args:
            url: what to get.
            into: gets the decoded body. It is empty, and can be read and truncated. Its own errors
                are raised unchanged.
            seconds: the deadline for everything. Only the system's resolver may take longer.
            max_bytes: the largest body, both encoded and decoded.
            plain_http: call http:// URLs of public hosts too.
            run: runs in a step loop what blocks, such as the resolution of a name.

        Raises:
            Forbidden: the URL or a redirect target must not be called.
            TooLarge: the body has more than `max_bytes`.
            RequestFailed: there is no complete answer with status 200 in time.
        """
        if current_loop() is not None and self._downloads is not None:
            wanted = Wanted(into, time.monotonic() + seconds, max_bytes, plain_http, run)
            return self._downloads.fetch(url, wanted)
        call = self._call(seconds)
        fetched: FetchedBody = run(
            partial(self._fetch, url, into, call, max_bytes, plain_http=plain_http)
        )
        return fetched

    def _fetch(
        self, url: str, into: BinaryIO, call: ActiveCall, max_bytes: int, *, plain_http: bool
    ) -> FetchedBody:
        for _ in range(MAX_REDIRECTS + 1):
            target = self._guard.target(url, plain_http=plain_http)
            with self._get(target, call) as response:
                location = response.headers.get("Location")
                if response.status not in REDIRECTS or location is None:
                    return _write_body(response, into, call, max_bytes)
                url = joined(target, location)
        raise RequestFailed(f"more than {MAX_REDIRECTS} redirects")

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float
    ) -> PostAnswer:
        """POST a body once. A redirect is not followed.

        Args:
            url: the receiver.
            body: is sent as it is.
            headers: are sent too. They may replace User-Agent, Accept and Accept-Encoding.
            seconds: the deadline, as in `fetch`.

        Raises:
            Forbidden: the URL must not be called.
            RequestFailed: there is no HTTP answer in time. The request may have arrived.
        """
        call = self._call(seconds)
        prepared = _prepared(body, headers)
        request = Request("POST", self._guard.target(url), prepared.headers, body)
        with self._send(request, call) as response:
            call.ends = min(call.ends, time.monotonic() + _MAX_DRAIN_SECONDS)
            _drain(response)
            return PostAnswer(response.status, _retry_after(response))

    def _call(self, seconds: float) -> ActiveCall:
        return ActiveCall(time.monotonic() + seconds, self._connect_timeout, self._guard)

    def _get(self, target: Target, call: ActiveCall) -> Response:
        """GET, and GET again when an idle connection of the pool was closed."""
        request = Request("GET", target, _HEADERS)
        try:
            return self._send(request, call)
        except _ConnectionStale:
            call.fresh_connection = True
            return self._send(request, call)

    def _send(self, request: Request, call: ActiveCall) -> Response:
        try:
            return self._connections.exchange(request, call)
        except (HTTPException, OSError) as error:
            failed = _failed(error, call)
            raise (failed if call.connected else _ConnectionStale(failed.reason)) from None


def _prepared(body: bytes, headers: Mapping[str, str]) -> PreparedRequest:
    """Return a request without a URL: requests checks the headers and adds the length."""
    prepared = PreparedRequest()
    prepared.prepare_method("POST")
    prepared.prepare_headers(_merged(headers))
    prepared.prepare_body(body, None)
    return prepared


def _merged(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return our headers and these, which may replace ours."""
    given = {name.lower() for name in headers}
    return {**{n: v for n, v in _HEADERS.items() if n.lower() not in given}, **headers}


def _write_body(
    response: Response, into: BinaryIO, call: ActiveCall, max_bytes: int
) -> FetchedBody:
    """Write the body of an answer. Return what was written."""
    if response.status != 200:
        reason = f"it answered {response.status}"
        raise RequestFailed(reason, status=response.status, retry_after=_retry_after(response))
    digest, length = sha256(), 0
    for chunk in _body(response, call, max_bytes):
        length += len(chunk)
        digest.update(chunk)
        into.write(chunk)
    encoding = ", ".join(response.headers.get_all("Content-Encoding", []))
    written = decoded(encoding, into, max_bytes) or (length, digest.hexdigest())
    return FetchedBody(*written, media_type(response.headers.get("Content-Type", "")))


def _body(response: Response, call: ActiveCall, max_bytes: int) -> Iterator[bytes]:
    """Yield the body as it was sent, at most `max_bytes`."""
    if (response.bytes_left or 0) > max_bytes:
        raise too_large(max_bytes)
    length = 0
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            length += len(chunk)
            if length > max_bytes:
                raise too_large(max_bytes)
            yield chunk
    except (HTTPException, OSError) as error:
        raise _failed(error, call, "the body broke off: ", 200) from None


def _drain(response: Response) -> None:
    """Read a short body to its end, so that its connection can be used again."""
    left = _MAX_DRAINED_BYTES
    with suppress(HTTPException, OSError):
        while left > 0 and (chunk := response.read1(left)):
            left -= len(chunk)


def _retry_after(response: Response) -> float | None:
    return retry_after_seconds(response.headers.get("Retry-After", ""))


def _failed(
    error: BaseException, call: ActiveCall, before: str = "", status: int | None = None
) -> RequestFailed:
    """Return the failure, without the URL and without other data of the request."""
    if time.monotonic() >= call.ends:
        return RequestFailed("it did not end in time", status=status)
    reason = str(error) if isinstance(error, ProxyRefused) else type(error).__name__
    return RequestFailed(f"{before}{reason}", status=status)
