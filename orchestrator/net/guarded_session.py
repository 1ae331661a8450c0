"""HTTP requests to URLs that somebody else chose: image links and notify URLs.

libcurl connects to the addresses that the guard has checked, and to no other.

`Forbidden` is raised for a URL that must not be called, `RequestFailed` when there is no good
answer, and its subclass `TooLarge` when another try has the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from time import monotonic
from typing import Any, BinaryIO

import pycurl

from orchestrator.net.addresses import literal
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
from orchestrator.net.proxy import Proxy
from orchestrator.net.transfer import REASONS, Request, Transfer
from orchestrator.net.transfers import DEFAULT_CA_BUNDLE, Transfers
from orchestrator.step_loop import in_thread

__all__ = ["FetchedBody", "Forbidden", "GuardedSession", "PostAnswer", "RequestFailed", "TooLarge"]

#: Idle connections that each step loop keeps, of all hosts. So does each other thread.
MAX_IDLE_CONNECTIONS = 256
#: The checked addresses of a name are used this long. Seconds.
ADDRESS_SECONDS = 30.0
#: The most names whose addresses are remembered.
MAX_NAMES = 1000
#: The digest of a longer body is computed in another thread, because that takes long. Bytes.
LONG_BODY_BYTES = 64 * 1024
#: The answer to a POST is read up to these limits, so that its connection can be used again.
MAX_DRAINED_BYTES, MAX_DRAIN_SECONDS = 64 * 1024, 1.0
#: The reason of a call whose time is over.
LATE = "it did not end in time"
#: The reason of a call for which there was no connection in time.
SLOW_CONNECTION = "connecting took too long"
#: libcurl counts whole milliseconds, so a time limit may end a little early. Seconds.
_ROUNDING_SECONDS = 0.05
#: The part of a file that is read at a time. Bytes.
_READ_BYTES = 1024 * 1024

#: Runs in a step loop what blocks, and returns its result.
Run = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """The HTTP answer to a POST. `retry_after` is in seconds, at most an hour."""

    status: int
    retry_after: float | None


class GuardedSession:
    """Calls every URL that the guard allows. All threads of a process share it.

    No cookie is kept, and no proxy or password of the environment is used. In a step loop, other
    steps run during a call.

    Args:
        guard: the rules.
        connect_timeout: seconds for connecting, name resolution and TLS included.
        ca_bundle: a file with the authorities that are trusted.
        proxy: opens the connections to public addresses. The guard checks an address before.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        connect_timeout: float,
        ca_bundle: str = DEFAULT_CA_BUNDLE,
        proxy: Proxy | None = None,
    ) -> None:
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._transfers = Transfers(
            connect_timeout=connect_timeout,
            seconds=connect_timeout,  # each call has its own
            connections=MAX_IDLE_CONNECTIONS,
            ca_bundle=ca_bundle,
            proxy=proxy,
        )
        #: The addresses of a host and port, and until when they are used.
        self._addresses: dict[tuple[str, int], tuple[tuple[str, ...], float]] = {}

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
        run: Run = in_thread,
    ) -> FetchedBody:
        """GET a URL and write the body of its answer. The status must be 200.

        At most 5 redirects are followed. Each target is checked like the first URL. After an error
        `into` may hold a part of a body.

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
        ends_at = monotonic() + seconds
        for _ in range(MAX_REDIRECTS + 1):
            target = self._guard.target(url, plain_http=plain_http)
            request = partial(Request, "GET", target.url, HEADERS, into=into, ends_at=ends_at)
            transfer = self._exchange(request, ends_at, target, max_bytes, run)
            location = transfer.headers.get("location")
            whole = transfer.failure is None or transfer.cut
            if not (whole and transfer.status in REDIRECTS and location is not None):
                return _body(transfer, into, max_bytes, run)
            url = joined(target, location)
        raise RequestFailed(f"more than {MAX_REDIRECTS} redirects")

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        seconds: float,
        run: Run = in_thread,
    ) -> PostAnswer:
        """POST a body once. A redirect is not followed.

        Args:
            url: the receiver.
            body: is sent as it is.
            headers: are sent too. They may replace User-Agent, Accept and Accept-Encoding.
            seconds: the deadline, as in `fetch`.
            run: as in `fetch`.

        Raises:
            Forbidden: the URL must not be called.
            RequestFailed: there is no HTTP answer in time. The request may have arrived.
        """
        target = self._guard.target(url)
        request = partial(
            Request, "POST", target.url, _merged(headers), body, drain_seconds=MAX_DRAIN_SECONDS
        )
        ends_at = monotonic() + seconds
        transfer = self._exchange(request, ends_at, target, MAX_DRAINED_BYTES, run)
        if not transfer.answered:
            raise RequestFailed(_reason(transfer))
        return PostAnswer(transfer.status, _retry_after(transfer))

    def _exchange(
        self,
        request: Callable[..., Request],
        ends_at: float,
        target: Target,
        max_bytes: int,
        run: Run,
    ) -> Transfer:
        """Make a call to a checked target, at one of its checked addresses.

        `request` lacks only the addresses and the time limits.
        """
        _check_time(ends_at)  # no name is resolved for a call that has ended
        connects_by = monotonic() + self._connect_timeout
        addresses = self._addresses_of(target, run)
        _check_time(ends_at)
        if monotonic() >= connects_by:
            raise RequestFailed(SLOW_CONNECTION)
        return self._transfers.exchange(
            request(addresses=addresses, ends_at=ends_at, connects_by=connects_by), max_bytes
        )

    def _addresses_of(self, target: Target, run: Run) -> tuple[str, ...]:
        """Return the checked addresses of a host.

        Raises:
            Forbidden: one of them is forbidden.
            RequestFailed: the name has no address.
        """
        ip = literal(target.host)
        if ip is not None:
            return (str(ip),)  # checked with the URL
        place = (target.host, target.port)
        known, until = self._addresses.get(place, ((), 0.0))
        if monotonic() < until:
            return known
        try:
            resolved = run(partial(self._guard.resolved, *place))
        except OSError:
            raise RequestFailed(REASONS[pycurl.E_COULDNT_RESOLVE_HOST]) from None
        addresses = tuple(address.ip for address in resolved)
        if len(self._addresses) >= MAX_NAMES:
            self._addresses.clear()
        self._addresses[place] = addresses, monotonic() + ADDRESS_SECONDS
        return addresses


def _merged(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return our headers and these, which may replace ours."""
    given = {name.lower() for name in headers}
    return {**{n: v for n, v in HEADERS.items() if n.lower() not in given}, **headers}


def _check_time(ends_at: float) -> None:
    if monotonic() >= ends_at:
        raise RequestFailed(LATE)


def _reason(transfer: Transfer) -> str:
    is_over = monotonic() + _ROUNDING_SECONDS >= transfer.ends_at
    if transfer.timed_out and not transfer.sent and not is_over:
        return SLOW_CONNECTION
    return LATE if transfer.timed_out else transfer.failure or "there is no answer"


def _retry_after(transfer: Transfer) -> float | None:
    return retry_after_seconds(transfer.headers.get("retry-after", ""))


def _body(transfer: Transfer, into: BinaryIO, max_bytes: int, run: Run) -> FetchedBody:
    """Return the body of an answer with status 200, or raise why there is none."""
    if transfer.file_error:
        raise transfer.file_error
    status = transfer.status if transfer.answered else None
    if transfer.cut or (transfer.failure is None and status != HTTPStatus.OK):
        wait = _retry_after(transfer)
        raise RequestFailed(f"it answered {status}", status=status, retry_after=wait)
    if transfer.too_large:
        raise too_large(max_bytes)
    if transfer.failure:
        before = "" if transfer.timed_out or status is None else "the body broke off: "
        raise RequestFailed(f"{before}{_reason(transfer)}", status=status)
    encoding = transfer.headers.get("content-encoding", "")
    act = partial(_written, into, encoding, max_bytes)
    long = transfer.length > LONG_BODY_BYTES or encoding
    length, digest = run(act) if long else act()
    return FetchedBody(length, digest, media_type(transfer.headers.get("content-type", "")))


def _written(into: BinaryIO, encoding: str, max_bytes: int) -> tuple[int, str]:
    """Return the length and the SHA-256 of the decoded body."""
    if changed := decoded(encoding, into, max_bytes):
        return changed
    digest, length = sha256(), 0
    into.seek(0)
    while piece := into.read(_READ_BYTES):
        digest.update(piece)
        length += len(piece)
    return length, digest.hexdigest()
