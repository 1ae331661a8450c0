"""The callback receiver: verify, then deduplicate, then answer. In this order, cheapest first.

1. size: 413
2. token: 404, so that an outsider learns nothing; Redis is not touched
3. the body is read: 400 if it is cut off
4. the provider's signature over the raw body, where a secret is set: 401
5. JSON and shape: 400, kept in the ledger's rejected stream
6. one script in the ledger: 200, or 409 for another task's id; when Redis is away 503, or 200 once
   the callback is in the spool

Nothing slow runs here: no outbound HTTP, no image work, one round trip to Redis. docs/callbacks.md
lists every answer.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress, verified
from orchestrator.callbacks.apply import UnreadableCallback, apply_callback, read_callback
from orchestrator.callbacks.drain import Drainer
from orchestrator.callbacks.spool import Entry, SpoolError
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable, Result
from orchestrator.runtime import Runtime
from orchestrator.security.signatures import BadSignature

#: The largest callback that is read. Bytes; real ones are a few kilobytes of links.
MAX_BODY = 256 * 1024

#: A provider takes any 2xx for "delivered", and delivers again after anything else.
STATUS_OF = {
    Result.SETTLED: 200,
    Result.DUPLICATE: 200,
    Result.CONFLICT: 200,
    Result.SUPERSEDED: 200,
    Result.RUNNING: 200,
    Result.MISMATCH: 409,
    Result.MISSING: 404,
}


class _Refused(Exception):
    """A callback that does not reach the ledger."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


def blueprint(runtime: Runtime, drainer: Drainer | None) -> Blueprint:
    """The route, on these runtime; the drainer is of the spool, if there is one."""
    callbacks = Blueprint("callbacks", __name__)
    refused, unstored = log.Flood("callback_refused"), log.Flood("callback_unstored")

    @callbacks.post("/callbacks/<provider>/<reference>/<token>")
    def receive(provider: str, reference: str, token: str) -> Response:
        """Take one callback."""
        try:
            address, body = _verify(runtime, provider, reference, token)
            now = runtime.clock()
            report = read_callback(runtime, address, body, now)
            try:
                result = apply_callback(runtime, address, report, now)
            except LedgerUnavailable as error:
                if drainer is None:
                    raise
                _keep(drainer, address, body, now, str(error))
                return _answer(200, "spooled")
        except _Refused as error:
            refused.warning(str(error.status), provider=provider[:40], why=error.why)
            return _answer(error.status, error.why)
        except UnreadableCallback as error:
            refused.warning("400", provider=provider, why=str(error))
            return _answer(400, f"not a task: {error}")
        except LedgerUnavailable as error:
            unstored.warning("503", provider=provider, why=str(error))
            return _answer(503, "the ledger is away: deliver again")
        return _answer(STATUS_OF[result], result)

    return callbacks


def _verify(
    runtime: Runtime, provider: str, reference: str, token: str
) -> tuple[CallbackAddress, bytes]:
    request.max_content_length = MAX_BODY
    length = request.content_length
    if length is not None and length > MAX_BODY:
        raise _Refused(413, f"larger than {MAX_BODY} bytes")
    address = verified(runtime.settings, provider, reference, token)
    if address is None or provider not in runtime.providers:
        raise _Refused(404, "not found")
    settings = runtime.settings.providers.get(provider)
    if settings is None:
        raise _Refused(503, "this provider is switched off")
    body = request.get_data(cache=False)
    if length is None and len(body) >= MAX_BODY:  # chunked, and cut off
        raise _Refused(413, f"larger than {MAX_BODY} bytes")
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


def _keep(drainer: Drainer, address: CallbackAddress, body: bytes, now: int, why: str) -> None:
    try:
        drainer.keep(Entry(address.provider, address.job_id, address.attempt, now, body))
    except SpoolError as error:
        raise LedgerUnavailable(f"{why}; the spool: {error}") from error
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
