"""What becomes of a verified callback, whether it comes from the network or from the spool."""

from __future__ import annotations

from orchestrator import log
from orchestrator.callbacks import CallbackAddress
from orchestrator.jobs import Step
from orchestrator.ledger import Result
from orchestrator.providers.readings import TaskReport, Unreadable
from orchestrator.runtime import Runtime
from orchestrator.wire import NotJson, parse


class NotATask(Exception):
    """A body that tells of no task; the ledger's rejected stream has it."""


def read(parts: Runtime, address: CallbackAddress, body: bytes, received: int) -> TaskReport:
    """What the body tells.

    Raises:
        NotATask: nothing.
        LedgerUnavailable: nothing, and the ledger is away.
    """
    try:
        return parts.providers[address.provider].read_task(parse(body), received)
    except (NotJson, Unreadable) as error:
        parts.ledger.reject(
            "callback",
            now=received,
            reason=str(error),
            body=body,
            provider=address.provider,
            reference=f"{address.job_id}.{address.attempt}",
        )
        raise NotATask(str(error)) from None


def record(
    parts: Runtime, address: CallbackAddress, report: TaskReport, now: int, **context: object
) -> Result:
    """Bring it to the job: one round trip. `context` goes into the log line.

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
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
        **context,
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
