"""The one way to ask an address that somebody else chose: image links, notify URLs.

Errors: `Forbidden` (the guard's) for what may not be asked at all; `Failed` when there is no good
answer, and its kind `TooLarge`, which another try would not mend.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError as Urllib3Error

from orchestrator.net.deadline import ActiveCall, DeadlineAdapter, Request, innermost, prepared
from orchestrator.net.guard import Forbidden, Guard, Target
from orchestrator.net.http_types import retry_after_seconds

MAX_REDIRECTS = 5
#: A body is read in pieces of this size. Bytes.
_CHUNK = 256 * 1024
#: An encoded body is read in smaller ones, since it may swell a thousandfold.
_ENCODED_CHUNK = 16 * 1024
#: How much of the answer to a POST is read for its connection's sake: bytes, and seconds.
_THROWN_AWAY = 64 * 1024
_PATIENCE = 1.0
#: The start of a Content-Type that is kept. Characters.
_LONGEST_TYPE = 100
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GZIP = 16 + zlib.MAX_WBITS
_WBITS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}
_HEADERS = {"User-Agent": "image-orchestrator", "Accept": "*/*", "Accept-Encoding": "identity"}


class Failed(Exception):
    """There is no good answer. Another try may get one, unless the status says otherwise.

    Attributes:
        reason: why, in a few words, without the URL or anything of a header.
        status: the HTTP status, if there is one.
        retry_after: seconds the answer asks us to wait, at most an hour.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class TooLarge(Failed):
    """The body is larger than was allowed."""


class _Stale(Failed):
    """A connection from the pool broke off before an answer was read."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body that was written: its length, its SHA-256 in hex, and the media type it was given.

    The media type is in lower case, without parameters, and empty when the answer has none.
    """

    bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer to a POST. `retry_after` is in seconds, at most an hour."""

    status: int
    retry_after: float | None


class GuardedSession:
    """Pooled connections to wherever the guard lets us, shared by all threads of a process.

    Calls go straight to requests' adapter: no cookie is kept, no proxy or password of the
    environment used, and a call costs half as much.

    Args:
        guard: the rules.
        connect_timeout: seconds for connecting, TLS included.
        connections: idle connections kept for each host, and hosts that they are kept for.
        tls: what certificates are checked with; None is the authorities that requests trusts.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        connect_timeout: float,
        connections: int = 32,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._adapter = DeadlineAdapter(connections, tls)

    def fetch(self, url: str, into: BinaryIO, *, seconds: float, max_bytes: int) -> Fetched:
        """GET a URL and write the body of its answer, which has to be 200, in pieces.

        At most 5 redirects are followed; each is judged like the first URL. After an error `into`
        may hold a part of a body.

        Args:
            url: what to get.
            into: gets the body, without content encoding. Its own errors come through as they are.
            seconds: the most time all of it takes, except that the system's resolver is not
                interrupted, and may take longer.
            max_bytes: the largest body, with and without content encoding.

        Raises:
            Forbidden: the URL, or one that it redirects to, may not be asked.
            TooLarge: the body has more than `max_bytes`.
            Failed: there is no whole answer with status 200 in time.
        """
        call = self._call(seconds)
        for _ in range(MAX_REDIRECTS + 1):
            target = self._guard.target(url)
            with self._get(target, call) as response:
                location = response.headers.get("Location")
                if response.status_code not in _REDIRECTS or location is None:
                    return _written(response, into, call, max_bytes)
                url = _joined(target, location)
        raise Failed(f"more than {MAX_REDIRECTS} redirects")

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> Answer:
        """POST a body, once. A redirect is an answer like others.

        Args:
            url: where to.
            body: what to send.
            headers: sent with it; User-Agent, Accept and Accept-Encoding can be changed.
            seconds: the most time all of it takes; the resolver may take longer, as in `fetch`.

        Raises:
            Forbidden: the URL may not be asked.
            Failed: there is no HTTP answer in time. The request may have arrived all the same.
        """
        call = self._call(seconds)
        request = _request("POST", self._guard.target(url), headers)
        request.body, request.headers["Content-Length"] = body, str(len(body))
        with self._send(request, call) as response:
            call.ends = min(call.ends, time.monotonic() + _PATIENCE)
            _throw_away(response)
            return Answer(response.status_code, _retry_after(response))

    def _call(self, seconds: float) -> ActiveCall:
        return ActiveCall(time.monotonic() + seconds, self._connect_timeout, self._guard)

    def _get(self, target: Target, call: ActiveCall) -> requests.Response:
        """GET, and once again if the connection had been idle in the pool and broke off."""
        request = _request("GET", target, {})
        try:
            return self._send(request, call)
        except _Stale:
            call.fresh_connection = True
            return self._send(request, call)

    def _send(self, request: Request, call: ActiveCall) -> requests.Response:
        try:
            return self._adapter.exchange(request, call)
        except (requests.RequestException, Urllib3Error, OSError) as error:
            failed = _failed(error, call)
            raise (failed if call.connected else _Stale(failed.reason)) from None


def _request(method: str, target: Target, headers: Mapping[str, str]) -> Request:
    request = prepared(method, target, _HEADERS)
    request.headers.update(headers)
    return request


def _written(
    response: requests.Response, into: BinaryIO, call: ActiveCall, max_bytes: int
) -> Fetched:
    """Write the body of an answer, and tell what it was."""
    if response.status_code != 200:
        reason = f"it answered {response.status_code}"
        raise Failed(reason, status=response.status_code, retry_after=_retry_after(response))
    digest, length = sha256(), 0
    for piece in _body(response, call, max_bytes):
        length += len(piece)
        if length > max_bytes:
            raise _too_large(max_bytes)
        digest.update(piece)
        into.write(piece)
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Fetched(length, digest.hexdigest(), media_type[:_LONGEST_TYPE])


def _body(response: requests.Response, call: ActiveCall, max_bytes: int) -> Iterator[bytes]:
    """The body without its content encoding. We asked for none, but not every server listens."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return _sent(response, call, max_bytes, _CHUNK)
    if encoding not in _WBITS:
        raise Failed("its content encoding is unknown", status=200)
    return _inflated(_sent(response, call, max_bytes, _ENCODED_CHUNK), _WBITS[encoding])


def _sent(
    response: requests.Response, call: ActiveCall, max_bytes: int, size: int
) -> Iterator[bytes]:
    """The body as it was sent, in pieces; it too has at most `max_bytes`."""
    raw = response.raw
    if (raw.length_remaining or 0) > max_bytes:
        raise _too_large(max_bytes)
    length = 0
    try:
        while piece := raw.read1(size, decode_content=False):
            length += len(piece)
            if length > max_bytes:
                raise _too_large(max_bytes)
            yield piece
    except (Urllib3Error, OSError) as error:
        raise _failed(error, call, "the body broke off: ", 200) from None


def _inflated(pieces: Iterator[bytes], wbits: int) -> Iterator[bytes]:
    """What gzip or deflate made of a body, never more than a piece at a time."""
    decoder = zlib.decompressobj(wbits)
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if decoder.eof:  # gzip may have more than one part
                    decoder = zlib.decompressobj(wbits)
                yield decoder.decompress(rest, _CHUNK)
                rest = decoder.unconsumed_tail or decoder.unused_data
    except zlib.error:
        raise Failed("the body cannot be decoded", status=200) from None
    if not decoder.eof:
        raise Failed("the body broke off: its encoding has no end", status=200)


def _throw_away(response: requests.Response) -> None:
    """Read a body to its end, that its connection may be used again; or not, if that is far."""
    left = _THROWN_AWAY
    with suppress(Urllib3Error, OSError):
        while left > 0 and (piece := response.raw.read1(left, decode_content=False)):
            left -= len(piece)


def _joined(target: Target, location: str) -> str:
    """Where a redirect leads to. Servers send UTF-8, which http.client reads as Latin-1."""
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    try:
        return urljoin(target.url, location)
    except ValueError:
        raise Forbidden("the redirect cannot be read") from None


def _retry_after(response: requests.Response) -> float | None:
    return retry_after_seconds(response.headers.get("Retry-After", ""))


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body has more than {max_bytes} bytes", status=200)


def _failed(
    error: BaseException, call: ActiveCall, before: str = "", status: int | None = None
) -> Failed:
    """The kind of failure, without the URL or anything else that was sent."""
    if time.monotonic() >= call.ends:
        return Failed("it did not end in time", status=status)
    return Failed(f"{before}{type(innermost(error)).__name__}", status=status)
