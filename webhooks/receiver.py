"""The callback receiver: verify, then deduplicate, then answer. In this order, cheapest first.

1. size: 413
2. token: 404, so that an outsider learns nothing; Redis is not touched
3. the provider's signature over the raw body, where a secret is set: 401
4. JSON and shape: 400, kept in the ledger's rejected stream
5. one script in the ledger: 200, or 409 for another task's id; 503 when Redis is away

Nothing slow runs here: no outbound HTTP, no image work, one round trip to Redis.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator import log
from orchestrator.callbacks import CallbackAddress, verified
from orchestrator.jobs import Step
from orchestrator.ledger import LedgerUnavailable, Result
from orchestrator.providers.base import TaskReport, Unreadable
from orchestrator.runtime import Runtime
from orchestrator.security.signatures import BadSignature
from orchestrator.wire import NotJson, dump, parse

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


def blueprint(parts: Runtime) -> Blueprint:
    """The route, on these parts."""
    callbacks = Blueprint("callbacks", __name__)

    @callbacks.post("/callbacks/<provider>/<reference>/<token>")
    def receive(provider: str, reference: str, token: str) -> Response:
        """Take one callback."""
        try:
            address, body = _verify(parts, provider, reference, token)
            result = _record(parts, address, body)
        except _Refused as refused:
            log.get().warning("callback_refused", provider=provider[:40], why=refused.why)
            return _answer(refused.status, refused.why)
        except LedgerUnavailable as error:
            log.get().error("callback_unstored", provider=provider, why=str(error))
            return _answer(503, "the ledger is away: deliver again")
        return _answer(STATUS_OF[result], result)

    return callbacks


def _verify(
    parts: Runtime, provider: str, reference: str, token: str
) -> tuple[CallbackAddress, bytes]:
    request.max_content_length = MAX_BODY
    length = request.content_length
    if length is not None and length > MAX_BODY:
        raise _Refused(413, f"larger than {MAX_BODY} bytes")
    address = verified(parts.settings, provider, reference, token)
    if address is None or provider not in parts.providers:
        raise _Refused(404, "not found")
    settings = parts.settings.providers.get(provider)
    if settings is None:
        raise _Refused(503, "this provider is switched off")
    body = request.get_data(cache=False)
    if length is None and len(body) >= MAX_BODY:  # chunked, and cut off
        raise _Refused(413, f"larger than {MAX_BODY} bytes")
    if settings.webhook_secrets:
        adapter, now = parts.providers[provider], parts.clock()
        try:
            headers = {name.lower(): value for name, value in request.headers}
            adapter.verify_callback(headers, body, settings.webhook_secrets, now)
        except BadSignature as error:
            raise _Refused(401, str(error)) from None
    return address, body


def _record(parts: Runtime, address: CallbackAddress, body: bytes) -> Result:
    now = parts.clock()
    try:
        report = parts.providers[address.provider].read_task(parse(body), now)
    except (NotJson, Unreadable) as error:
        reference = f"{address.job_id}.{address.attempt}"
        parts.ledger.reject(
            "callback",
            now=now,
            reason=str(error),
            body=body,
            provider=address.provider,
            reference=reference,
        )
        raise _Refused(400, f"not a task: {error}") from None
    if report.outcome is None or parts.settings.providers[address.provider].confirm_callbacks:
        result = _observe(parts, address, report, now)
    else:
        result = parts.ledger.settle_attempt(
            address.job_id, address.attempt, report.task_id, report.outcome, now=now
        )
    log.get().info(
        "callback_received",
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
        state=report.state[:40],
        result=result,
    )
    return result


def _observe(parts: Runtime, address: CallbackAddress, report: TaskReport, now: int) -> Result:
    """A callback that does not settle: not terminal, or to be confirmed by a poll at once."""
    confirm = report.outcome is not None
    grace = int(parts.settings.callback_grace_seconds * 1000)
    result = parts.ledger.observe(
        address.job_id,
        address.attempt,
        report.task_id,
        now=now,
        next_look=now if confirm else None,
        fallback=now + grace,
    )
    if confirm and result is Result.RUNNING:
        parts.nudger.nudge(Step.POLL, [address.job_id])
    return result


def _answer(status: int, text: str) -> Response:
    if status < 400:
        return Response(dump({"result": text}), status, content_type="application/json")
    problem = dump({"status": status, "detail": text})
    return Response(problem, status, mimetype="application/problem+json")
