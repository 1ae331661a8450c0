"""The callback receiver: verify, deduplicate, answer. The cheapest check comes first.

1. Size: 413.
2. Token: 404, so that an outsider learns nothing. Redis is not used.
3. Read the body: 400 if it is cut off.
4. The provider's signature over the raw body, if a secret is set: 401.
5. JSON and shape: 400. The ledger's rejected stream keeps the body.
6. One script in the ledger: 200, or 409 for another task id. While Redis is away: 503, or 200 when
   the callback is in the spool.

Nothing slow runs here: no outbound HTTP, no image work, one round trip to Redis. docs/callbacks.md
lists every answer.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress, verified_address
from orchestrator.callbacks.apply import (
    UnreadableCallback,
    apply_callback,
    note_unreadable,
    read_callback,
)
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Entry, SpoolError
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable, Result
from orchestrator.providers.responses import TaskReport
from orchestrator.runtime import Runtime
from orchestrator.security.signatures import BadSignature

#: The largest accepted callback. Real ones have a few kilobytes. Bytes.
MAX_BODY_BYTES = 256 * 1024

#: A provider takes any 2xx as "delivered" and repeats the callback after any other status.
STATUS_OF = {
    Result.SETTLED: 200,
    Result.DUPLICATE: 200,
    Result.CONFLICT: 200,
    Result.LATE: 200,
    Result.SUPERSEDED: 200,
    Result.RUNNING: 200,
    Result.MISMATCH: 409,
    Result.MISSING: 404,
}


class _Refused(Exception):
    """The callback is refused before it reaches the ledger."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


def blueprint(runtime: Runtime, drainer: SpoolDrainer | None) -> Blueprint:
    """Return the route. `drainer` belongs to the spool, if there is one."""
    callbacks = Blueprint("callbacks", __name__)
    refused, unstored = (
        log.RateLimitedLog("callback_refused"),
        log.RateLimitedLog("callback_unstored"),
    )

    @callbacks.post("/callbacks/<provider>/<reference>/<token>")
    def receive(provider: str, reference: str, token: str) -> Response:
        """Receive one callback."""
        try:
            address, body = _verify(runtime, provider, reference, token)
            now = runtime.clock()
            report = _read(runtime, address, body, now)
            try:
                result = apply_callback(runtime, address, report, now)
            except LedgerUnavailable as error:
                if drainer is None:
                    raise
                _keep(drainer, address, body, now, str(error))
                return _answer(200, "spooled")
        except _Refused as error:
            refused.warning(str(error.status), provider=provider[:40], reason=error.reason)
            return _answer(error.status, error.reason)
        except UnreadableCallback as error:
            refused.warning("400", provider=provider, reason=str(error))
            return _answer(400, f"the body is not a task: {error}")
        except LedgerUnavailable as error:
            unstored.warning("503", provider=provider, reason=str(error))
            return _answer(503, "the ledger is away; deliver the callback again")
        return _answer(STATUS_OF[result], result)

    return callbacks


def _verify(
    runtime: Runtime, provider: str, reference: str, token: str
) -> tuple[CallbackAddress, bytes]:
    request.max_content_length = MAX_BODY_BYTES
    length = request.content_length
    if length is not None and length > MAX_BODY_BYTES:
        raise _Refused(413, f"larger than {MAX_BODY_BYTES} bytes")
    address = verified_address(runtime.settings, provider, reference, token)
    if address is None or provider not in runtime.providers:
        raise _Refused(404, "not found")
    settings = runtime.settings.providers.get(provider)
    if settings is None:
        raise _Refused(503, "this provider is switched off")
    body = request.get_data(cache=False)
    if length is None and len(body) >= MAX_BODY_BYTES:  # chunked, and cut off
        raise _Refused(413, f"larger than {MAX_BODY_BYTES} bytes")
    if length is not None and len(body) < length:
        raise _Refused(400, f"cut off after {len(body)} of {length} bytes")
    if settings.webhook_secrets:
        adapter, now = runtime.providers[provider], runtime.clock()
        try:
            headers = {name.lower(): value for name, value in request.headers}
            adapter.verify_callback(headers, body, settings.webhook_secrets, now)
        except BadSignature as error:
            raise _Refused(401, str(error)) from None
    return address, body


def _read(runtime: Runtime, address: CallbackAddress, body: bytes, now: int) -> TaskReport:
    """Read a verified callback. A body that cannot be read still makes a poll due."""
    try:
        return read_callback(runtime, address, body, now)
    except UnreadableCallback:
        note_unreadable(runtime, address, now)
        raise


def _keep(
    drainer: SpoolDrainer, address: CallbackAddress, body: bytes, now: int, reason: str
) -> None:
    try:
        drainer.keep(Entry(address.provider, address.job_id, address.attempt, now, body))
    except SpoolError as error:
        raise LedgerUnavailable(f"{reason}; the spool: {error}") from error
    log.get().info(
        "callback_spooled",
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
    )


def _answer(status: int, text: str) -> Response:
    if status < 400:
        return Response(dump({"result": text}), status, content_type="application/json")
    problem = dump({"status": status, "detail": text})
    return Response(problem, status, mimetype="application/problem+json")
