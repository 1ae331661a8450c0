"""Applies a verified callback to its job. The callback comes from the network or from the spool."""

from __future__ import annotations

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.body import read_body
from orchestrator.jobs.model import Step
from orchestrator.jsonio import NotJson
from orchestrator.ledger import Result
from orchestrator.providers.responses import TaskReport, Unreadable
from orchestrator.runtime import Runtime


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
    except (NotJson, Unreadable) as error:
        runtime.ledger.reject(
            "callback",
            now=received,
            reason=str(error),
            body=body,
            provider=address.provider,
            reference=f"{address.job_id}.{address.attempt}",
        )
        raise UnreadableCallback(str(error)) from None


def apply_callback(
    runtime: Runtime, address: CallbackAddress, report: TaskReport, now: int, **context: object
) -> Result:
    """Apply a callback to its job in one round trip. `context` is added to the log line.

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
    settings = runtime.settings.providers[address.provider]
    hint = runtime.providers[address.provider].capabilities.callback_is_hint
    if report.outcome is None or settings.confirm_callbacks or hint:
        result = _observe(runtime, address, report, now)
    else:
        settlement = runtime.ledger.settle_attempt(
            address.job_id, address.attempt, report.task_id, report.outcome, now=now
        )
        result = runtime.nudge_due(address.job_id, settlement)
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


def _observe(runtime: Runtime, address: CallbackAddress, report: TaskReport, now: int) -> Result:
    """Record a callback that does not settle: not terminal, or a poll must confirm it."""
    confirm = report.outcome is not None
    grace = int(runtime.settings.callback_grace_seconds * 1000)
    result = runtime.ledger.observe(
        address.job_id,
        address.attempt,
        report.task_id,
        now=now,
        due_at=now if confirm else None,
        fallback=now + grace,
    )
    if confirm and result is Result.RUNNING:
        runtime.nudger.nudge(Step.POLL, [address.job_id])
    return result
