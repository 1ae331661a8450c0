"""Downloads in a step loop, from URLs that somebody else chose. They need no thread.

libcurl connects to the addresses that the guard has checked, and to no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any, BinaryIO

from orchestrator.net.addresses import literal
from orchestrator.net.fetched_body import (
    HEADERS,
    MAX_REDIRECTS,
    REDIRECTS,
    FetchedBody,
    RequestFailed,
    decoded,
    joined,
    media_type,
    too_large,
)
from orchestrator.net.guard import Guard, Target
from orchestrator.net.http_types import retry_after_seconds
from orchestrator.net.transfers import Request, Transfer, Transfers

#: Idle connections that are kept, of all hosts.
MAX_IDLE_CONNECTIONS = 64
#: The checked addresses of a name are used this long. Seconds.
ADDRESS_SECONDS = 30.0
#: The most names whose addresses are remembered.
MAX_NAMES = 1000
#: The digest of a longer body is computed in another thread, because that takes long. Bytes.
LONG_BODY_BYTES = 64 * 1024
#: The part of a file that is read at a time. Bytes.
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a URL is downloaded. See `GuardedSession.fetch`. `ends_at`: monotonic seconds."""

    into: BinaryIO
    ends_at: float
    max_bytes: int
    plain_http: bool
    run: Callable[[Callable[[], Any]], Any]


class Downloads:
    """The downloads of one process, all in one step loop.

    Args:
        guard: the rules for URLs and addresses.
        connect_timeout: seconds for connecting, TLS included.
        ca_bundle: a file with the authorities that are trusted.
    """

    def __init__(self, guard: Guard, connect_timeout: float, ca_bundle: str) -> None:
        self._guard = guard
        self._transfers = Transfers(
            connect_timeout=connect_timeout,
            seconds=connect_timeout,  # each download has its own
            connections=MAX_IDLE_CONNECTIONS,
            ca_bundle=ca_bundle,
        )
        #: The addresses of a host and port, and until when they are used.
        self._addresses: dict[tuple[str, int], tuple[tuple[str, ...], float]] = {}

    def fetch(self, url: str, wanted: Wanted) -> FetchedBody:
        """GET a URL. It raises the errors of `GuardedSession.fetch`."""
        for _ in range(MAX_REDIRECTS + 1):
            target = self._guard.target(url, plain_http=wanted.plain_http)
            transfer = self._exchange(target, wanted)
            location = transfer.headers.get("location")
            whole = transfer.failure is None or transfer.cut
            if not (whole and transfer.status in REDIRECTS and location is not None):
                return _body(transfer, wanted)
            url = joined(target, location)
        raise RequestFailed(f"more than {MAX_REDIRECTS} redirects")

    def _exchange(self, target: Target, wanted: Wanted) -> Transfer:
        _check_time(wanted)  # no name is resolved for a download that has ended
        addresses = self._addresses_of(target, wanted)
        _check_time(wanted)
        request = Request(
            "GET",
            target.url,
            HEADERS,
            into=wanted.into,
            addresses=addresses,
            ends_at=wanted.ends_at,
        )
        return self._transfers.exchange(request, wanted.max_bytes)

    def _addresses_of(self, target: Target, wanted: Wanted) -> tuple[str, ...]:
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
            resolved = wanted.run(partial(self._guard.resolved, *place))
        except OSError as error:
            raise RequestFailed(type(error).__name__) from None
        addresses = tuple(address.ip for address in resolved)
        if len(self._addresses) >= MAX_NAMES:
            self._addresses.clear()
        self._addresses[place] = addresses, monotonic() + ADDRESS_SECONDS
        return addresses


def _check_time(wanted: Wanted) -> None:
    if monotonic() >= wanted.ends_at:
        raise RequestFailed("it did not end in time")


def _body(transfer: Transfer, wanted: Wanted) -> FetchedBody:
    """Return the body of an answer with status 200, or raise why there is none."""
    if transfer.file_error:
        raise transfer.file_error
    if transfer.cut or (transfer.failure is None and transfer.status != 200):
        wait = retry_after_seconds(transfer.headers.get("retry-after", ""))
        reason = f"it answered {transfer.status}"
        raise RequestFailed(reason, status=transfer.status, retry_after=wait)
    if transfer.too_large:
        raise too_large(wanted.max_bytes)
    if transfer.failure:
        status = transfer.status or None
        if transfer.timed_out:
            raise RequestFailed("it did not end in time", status=status)
        before = "the body broke off: " if status else ""
        raise RequestFailed(f"{before}{transfer.failure}", status=status)
    encoding = transfer.headers.get("content-encoding", "")
    act = partial(_written, wanted, encoding)
    long = transfer.length > LONG_BODY_BYTES or encoding
    length, digest = wanted.run(act) if long else act()
    return FetchedBody(length, digest, media_type(transfer.headers.get("content-type", "")))


def _written(wanted: Wanted, encoding: str) -> tuple[int, str]:
    """Return the length and the SHA-256 of the decoded body."""
    into = wanted.into
    if changed := decoded(encoding, into, wanted.max_bytes):
        return changed
    digest, length = sha256(), 0
    into.seek(0)
    while piece := into.read(_READ_BYTES):
        digest.update(piece)
        length += len(piece)
    return length, digest.hexdigest()
