"""The callback receiver: verify, deduplicate, answer. The cheapest check comes first.

1. Token: 404, so that an outsider learns nothing. Redis is not used, and the body is not read.
2. Read the body: 413 if it has more than MAX_LONG_BYTES, 400 if it is cut off. A body of more than
   MAX_BODY_BYTES is read in parts and shortened. It has images inside, and a poll gets them.
3. The provider's signature over the raw body, if it signs: 401. When its public keys are not known
   now, a poll is due at once, and decides.
4. JSON and shape: 400. The ledger's rejected stream keeps the body.
5. One script in the ledger: 200, or 409 for another task id. While Redis is away: 503, or 200 when
   the callback is in the spool.

A callback with a valid token whose body was not read to its end makes a poll due at once. Nothing
slow runs here: no outbound HTTP, no image work, one round trip to Redis. docs/callbacks.md lists
every answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter
from typing import Any

import flask
from flask import Flask
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_content_length, get_input_stream

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress, verified_address
from orchestrator.callbacks.apply import (
    UnreadableCallback,
    apply_callback,
    note_unreadable,
    read_callback,
)
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.long_body import ShortenedBody
from orchestrator.callbacks.probe import MAX_BODY_BYTES as MAX_PROBE_BYTES
from orchestrator.callbacks.probe import PROBE, Arrival, is_probe
from orchestrator.callbacks.spool import Entry, SpoolError
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable, Result
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import callback_status, provider_label
from orchestrator.runtime import Runtime
from orchestrator.security.public_keys import UnknownKey
from orchestrator.security.signatures import BadSignature
from orchestrator.step_loop import in_thread

#: The largest callback that is kept. Those with links have a few kilobytes. Bytes.
MAX_BODY_BYTES = 256 * 1024
#: The largest callback that is read. Those with images inside have some megabytes. Bytes.
MAX_LONG_BYTES = 64 * 1024 * 1024
#: The size of the parts in which a body is read. Bytes.
_PART_BYTES = 64 * 1024
#: The start of the paths of callbacks.
PREFIX = "/callbacks/"
#: A request as WSGI describes it.
Environ = dict[str, Any]
#: The name of the route. It needs no API key (`orchestrator/api/auth.py`).
ENDPOINT = "callbacks.receive"

#: A provider takes any 2xx as "delivered" and repeats the callback after any other status.
STATUS_OF = {
    Result.SETTLED: 200,
    Result.DUPLICATE: 200,
    Result.CONFLICT: 200,
    Result.LATE: 200,
    Result.SUPERSEDED: 200,
    Result.RUNNING: 200,
    Result.RECORDED: 200,
    Result.UNPROVEN: 200,
    Result.MISMATCH: 409,
    Result.MISSING: 404,
}
#: The result when the callback is in the spool.
SPOOLED = "spooled"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a callback."""

    status: int
    content_type: str
    body: bytes

    @property
    def status_line(self) -> str:
        """The status with its name, for WSGI."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers."""
        return [("Content-Type", self.content_type), ("Content-Length", str(len(self.body)))]


class _Refused(Exception):
    """The callback is refused before it reaches the ledger."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class _Unread(_Refused):
    """The token is valid, but the body was not read to its end."""


@dataclass(frozen=True, slots=True)
class _Body:
    """A body as it came, or its shortened form."""

    content: bytes
    shortened: bool = False


class Receiver:
    """Answers callbacks.

    Args:
        runtime: of this process.
        drainer: belongs to the spool, if there is one.
    """

    def __init__(self, runtime: Runtime, drainer: SpoolDrainer | None) -> None:
        self._runtime = runtime
        self._drainer = drainer
        self._refused = log.RateLimitedLog("callback_refused")
        self._unstored = log.RateLimitedLog("callback_unstored")

    def receive(self, environ: Environ, provider: str, reference: str, token: str) -> Answer:
        """Answer one callback."""
        if provider == PROBE:
            return self._probed(environ, reference, token)
        answer = self._answered(environ, provider, reference, token)
        status = callback_status(answer.status)
        self._runtime.timings.add(metrics.CALLBACKS, provider_label(provider), status)
        return answer

    def _probed(self, environ: Environ, reference: str, token: str) -> Answer:
        """Answer a probe of doctor with what arrived."""
        if not is_probe(self._runtime.settings, reference, token, now=self._runtime.clock()):
            return _answer(404, "not found")
        try:
            body = get_input_stream(environ, max_content_length=MAX_PROBE_BYTES).read()
        except RequestEntityTooLarge:
            return _answer(413, f"larger than {MAX_PROBE_BYTES} bytes")
        except ClientDisconnected:
            return _answer(400, "cut off")
        arrival = Arrival.of(body, dict(EnvironHeaders(environ)))
        return Answer(200, "application/json", dump(arrival.as_body()))

    def _answered(self, environ: Environ, provider: str, reference: str, token: str) -> Answer:
        try:
            address = _verified(self._runtime, provider, reference, token)
            result = _receive(environ, self._runtime, self._drainer, address)
        except _Refused as error:
            self._refused.warning(str(error.status), provider=provider[:40], reason=error.reason)
            return _answer(error.status, error.reason)
        except UnreadableCallback as error:
            self._refused.warning("400", provider=provider, reason=str(error))
            return _answer(400, f"the body is not a task: {error}")
        except LedgerUnavailable as error:
            self._unstored.warning("503", provider=provider, reason=str(error))
            return _answer(503, "the ledger is away; deliver the callback again")
        if result == Result.DUPLICATE:
            self._runtime.timings.add(metrics.REPEATED_CALLBACKS, provider_label(provider))
        return _answer(200 if result == SPOOLED else STATUS_OF[Result(result)], result)


def install(app: Flask, receiver: Receiver) -> None:
    """Add the route to `app`, and a shortcut to it past Flask, which took a fifth of the time."""
    inner = app.wsgi_app

    def shortcut(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "POST" or not path.startswith(PREFIX):
            return inner(environ, start_response)
        parts = path.removeprefix(PREFIX).split("/")
        if len(parts) != 3 or not all(parts) or not path.isascii():
            return inner(environ, start_response)
        answer = receiver.receive(environ, *parts)
        start_response(answer.status_line, answer.headers)
        return [answer.body]

    @app.post(f"{PREFIX}<provider>/<reference>/<token>", endpoint=ENDPOINT)
    def receive(provider: str, reference: str, token: str) -> Response:
        answer = receiver.receive(flask.request.environ, provider, reference, token)
        return Response(answer.body, answer.status, answer.headers)

    app.wsgi_app = shortcut  # type: ignore[method-assign]


def _verified(runtime: Runtime, provider: str, reference: str, token: str) -> CallbackAddress:
    address = verified_address(runtime.settings, provider, reference, token)
    if address is None or provider not in runtime.providers:
        raise _Refused(404, "not found")
    if provider not in runtime.settings.providers:
        raise _Refused(503, "this provider is switched off")
    return address


def _receive(
    environ: Environ, runtime: Runtime, drainer: SpoolDrainer | None, address: CallbackAddress
) -> str:
    """Apply a callback with a valid token. Return the result for the answer."""
    started = perf_counter()
    try:
        body = _read_body(environ)
    except _Unread:
        note_unreadable(runtime, address, runtime.clock())
        raise
    now = runtime.clock()
    if _is_signed(runtime, address) and body.shortened:  # it is over all bytes, and they are gone
        return _poll(runtime, address, now)
    if not _is_verified(environ, runtime, address, body.content, now):
        return _ask_provider(runtime, address, now)
    try:
        report = read_callback(runtime, address, body.content, now)
    except UnreadableCallback:
        if body.shortened:
            return _poll(runtime, address, now)
        note_unreadable(runtime, address, now)
        raise
    try:
        result = apply_callback(runtime, address, report, now, complete=not body.shortened)
    except LedgerUnavailable as error:
        if drainer is None:
            raise
        _keep(drainer, address, body, now, str(error))
        return SPOOLED
    seconds = perf_counter() - started
    runtime.timings.observe(
        metrics.CALLBACK_DELAY, provider_label(address.provider), seconds=seconds
    )
    return result


def _poll(runtime: Runtime, address: CallbackAddress, now: int) -> str:
    """Poll the job of a long callback whose task is not known from it."""
    result = note_unreadable(runtime, address, now)
    log.get().info(
        "callback_too_large",
        result=result,
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
    )
    return result


def _read_body(environ: Environ) -> _Body:
    """Read the body in parts. A long one is shortened while it is read.

    Raises:
        _Unread: it is cut off, or has more than MAX_LONG_BYTES.
    """
    length, received = get_content_length(environ), 0
    if length is not None and length > MAX_LONG_BYTES:
        raise _Unread(413, f"larger than {MAX_LONG_BYTES} bytes")
    if length is not None and length <= _PART_BYTES:
        content: bytes = environ["wsgi.input"].read(length)
        if len(content) < length:
            raise _Unread(400, f"cut off after {len(content)} of {length} bytes")
        return _Body(content)
    parts, shortened = list[bytes](), ShortenedBody()
    stream = get_input_stream(environ, max_content_length=MAX_LONG_BYTES + _PART_BYTES)
    while part := stream.read(_PART_BYTES):
        received += len(part)
        parts.append(part)
        if received > MAX_LONG_BYTES:
            raise _Unread(413, f"larger than {MAX_LONG_BYTES} bytes")
        if received > MAX_BODY_BYTES:
            shortened.feed(b"".join(parts))
            parts.clear()
    if length is not None and received < length:
        raise _Unread(400, f"cut off after {received} of {length} bytes")
    if received > MAX_BODY_BYTES:
        return _Body(shortened.body(), shortened=True)
    return _Body(b"".join(parts))


def _is_signed(runtime: Runtime, address: CallbackAddress) -> bool:
    """Return whether a callback needs the provider's signature."""
    settings = runtime.settings.providers[address.provider]
    return bool(settings.webhook_secrets or settings.jwks_url)


def _is_verified(
    environ: Environ, runtime: Runtime, address: CallbackAddress, body: bytes, now: int
) -> bool:
    """Check the provider's signature. Return False when its public keys are not known now.

    Raises:
        _Refused: the signature is wrong.
    """
    settings = runtime.settings.providers[address.provider]
    provider = runtime.providers[address.provider]
    if not _is_signed(runtime, address):
        return True
    headers = {name.lower(): value for name, value in EnvironHeaders(environ)}
    try:
        if settings.webhook_secrets:
            provider.verify_callback(headers, body, settings.webhook_secrets, now)
        if settings.jwks_url is None:
            return True
        keys = runtime.signing_keys.known(settings.jwks_url, runtime.session)
        if not keys:
            return False
        provider.verify_callback_by_keys(headers, body, keys, now)
    except UnknownKey as error:  # the provider may have newer keys
        if runtime.signing_keys.refresh(settings.jwks_url or "", runtime.session):
            return False
        raise _Refused(401, str(error)) from None
    except BadSignature as error:
        raise _Refused(401, str(error)) from None
    return True


def _ask_provider(runtime: Runtime, address: CallbackAddress, now: int) -> str:
    """Poll the job of a callback that cannot be verified now.

    Raises:
        _Refused: the task is not known yet. The provider will repeat the callback.
    """
    result = note_unreadable(runtime, address, now)
    log.get().info(
        "callback_unverified",
        result=result,
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
    )
    if result is Result.RECORDED:
        raise _Refused(503, "the provider's keys are not known yet; deliver the callback again")
    return result


def _keep(
    drainer: SpoolDrainer, address: CallbackAddress, body: _Body, now: int, reason: str
) -> None:
    attempt = (address.provider, address.job_id, address.attempt)
    try:
        in_thread(drainer.keep, Entry(*attempt, now, body.content, shortened=body.shortened))
    except SpoolError as error:
        raise LedgerUnavailable(f"{reason}; the spool: {error}") from error
    log.get().info(
        "callback_spooled",
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
    )


def _answer(status: int, text: str) -> Answer:
    if status < 400:
        return Answer(status, "application/json", dump({"result": text}))
    problem = dump({"status": status, "detail": text})
    return Answer(status, "application/problem+json", problem)
