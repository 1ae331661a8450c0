"""Applies a verified callback to its job. The callback comes from the network or from the spool."""

from __future__ import annotations

from orchestrator import log, tracing
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.body import read_body
from orchestrator.jobs.model import ErrorCode, JobError, Outcome, PendingFailure, Step
from orchestrator.jsonio import NotJson
from orchestrator.ledger import Result, Settlement, UnreadableJob
from orchestrator.providers.responses import TaskReport, Unreadable
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread

#: The failure of a job whose callback had images that no poll returned.
NOT_CONFIRMED = "a callback reported a success with its images inside, but no poll returned them"


class UnreadableCallback(Exception):
    """The body is not a task. The ledger's rejected stream keeps it."""


def read_callback(
    runtime: Runtime, address: CallbackAddress, body: bytes, received: int
) -> TaskReport:
    """Return the task in the body of a callback.

    Args:
        runtime: of this process.
        address: the attempt of the callback.
        body: raw bytes.
        received: ms.

    Raises:
        UnreadableCallback: the body is not a task.
        LedgerUnavailable: the body is not a task, and the ledger is away.
    """
    try:
        return runtime.providers[address.provider].read_callback(read_body(body), received)
    except Exception as error:  # noqa: BLE001  # another package's adapter may raise anything
        known = isinstance(error, NotJson | Unreadable)
        reason = str(error) if known else f"the adapter raised {type(error).__name__}"
        in_thread(
            runtime.ledger.rejected.keep,
            "callback",
            now=received,
            reason=reason,
            body=body,
            provider=address.provider,
            reference=f"{address.job_id}.{address.attempt}",
        )
        raise UnreadableCallback(reason) from None


def apply_callback(
    runtime: Runtime,
    address: CallbackAddress,
    report: TaskReport,
    now: int,
    *,
    complete: bool = True,
    **context: object,
) -> Result:
    """Apply a callback to its job in one round trip.

    Args:
        runtime: of this process.
        address: the attempt of the callback.
        report: what the callback says.
        now: ms.
        complete: whether the report is of the whole body. Otherwise a poll must confirm it.
        context: is added to the log line.

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
    with _span(runtime, address) as span:
        result = _apply(runtime, address, report, now, complete=complete)
        span.set("orchestrator.result", result)
    log.get().info(
        "callback_received",
        job=address.job_id,
        provider=address.provider,
        attempt=address.attempt,
        state=report.state[:40],
        result=result,
        **context,
    )
    return result


def _apply(
    runtime: Runtime, address: CallbackAddress, report: TaskReport, now: int, *, complete: bool
) -> Result:
    if not complete:
        return _observe_shortened(runtime, address, report.task_id, now)
    if report.outcome is None or _must_confirm(runtime, address, report.outcome):
        return _observe(runtime, address, report, now)
    return _settle(runtime, address, report.task_id, report.outcome, now)


def _span(runtime: Runtime, address: CallbackAddress) -> tracing.Span:
    """Return the span of a callback in its job's trace. The provider's `traceparent` is ignored."""
    trace = _trace_of(runtime, address.job_id) if tracing.is_on() else ""
    attributes = {
        "http.request.method": "POST",
        "http.route": "/callbacks/<provider>/<reference>/<token>",
        "messaging.message.conversation_id": address.job_id,
        "gen_ai.provider.name": address.provider,
    }
    return tracing.span("POST /callbacks", "server", attributes, parent=trace)


def _trace_of(runtime: Runtime, job_id: str) -> str:
    """Return the trace of a job. A job that cannot be read gets its callback nevertheless."""
    try:
        job = in_thread(runtime.ledger.get, job_id)
    except UnreadableJob:
        return ""
    return job.trace if job else ""


def _settle(
    runtime: Runtime, address: CallbackAddress, task_id: str, outcome: Outcome, now: int
) -> Result:
    """Settle a job with the outcome of a callback, unless a poll must decide."""
    settlement = runtime.ledger.settle_attempt(
        address.job_id, address.attempt, task_id, outcome, now=now
    )
    result = runtime.nudge_due(address.job_id, settlement)
    if result is Result.UNPROVEN:
        runtime.nudger.nudge(Step.POLL, [address.job_id], address.provider)
    return result


def note_unreadable(runtime: Runtime, address: CallbackAddress, now: int) -> Result:
    """Poll the job of a verified callback at once, because its body could not be read.

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
    return _observe_shortened(runtime, address, "", now)


def _observe_shortened(
    runtime: Runtime, address: CallbackAddress, task_id: str, now: int
) -> Result:
    """Have the task queried at once. The task id is empty if the body did not tell it."""
    settlement = runtime.ledger.observe(
        address.job_id,
        address.attempt,
        task_id,
        now=now,
        due_at=now,
        fallback=now,
        may_have_images=True,
    )
    return _query_at_once(runtime, address, settlement)


def _query_at_once(runtime: Runtime, address: CallbackAddress, settlement: Settlement) -> Result:
    """Nudge the step that queries the task: a poll of a running job, or the confirm step."""
    if settlement.result is Result.RUNNING:
        runtime.nudger.nudge(Step.POLL, [address.job_id], address.provider)
    return runtime.nudge_due(address.job_id, settlement)


def _must_confirm(runtime: Runtime, address: CallbackAddress, outcome: Outcome) -> bool:
    """Return whether a poll must confirm the outcome of a callback.

    Image bytes inside a callback are not stored here, because nothing slow runs in the receiver.
    """
    return runtime.callbacks_are_hints(address.provider) or _has_inline_images(outcome)


def _has_inline_images(outcome: Outcome) -> bool:
    return any(image.content is not None for image in outcome.images)


def _observe(runtime: Runtime, address: CallbackAddress, report: TaskReport, now: int) -> Result:
    """Record a callback that does not settle: not terminal, or a poll must confirm it."""
    outcome, thin = report.outcome, report.thin_success
    terminal = outcome is not None or thin is not None
    if outcome and _has_inline_images(outcome):
        thin = JobError(ErrorCode.GENERATION_FAILED, NOT_CONFIRMED, retryable=True)
    grace = int(runtime.settings.callback_grace_seconds * 1000)
    settlement = runtime.ledger.observe(
        address.job_id,
        address.attempt,
        report.task_id,
        now=now,
        due_at=now if terminal else None,
        fallback=now + grace,
        pending_failure=PendingFailure(thin, now) if thin else None,
        may_have_images=thin is not None or (outcome is not None and bool(outcome.images)),
    )
    return _query_at_once(runtime, address, settlement) if terminal else settlement.result
