"""Sends notifications again: of one job, or all that failed."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import Job, Step
from orchestrator.ledger import Result
from orchestrator.runtime import Runtime

#: Failed notifications that are read at once.
PAGE_JOBS = 1000


class NothingToNotify(Exception):
    """There is no notification to send. The message is the reason."""


def notify_again(runtime: Runtime, job: Job, *, actor: str) -> None:
    """Send a job's notification again, soon, with the same message id. A pause of the host ends.

    Raises:
        NothingToNotify: the job has no outcome yet, or its request names no receiver.
        LedgerUnavailable: Redis is away.
    """
    result = runtime.ledger.follow_ups.notify_again(job.id, now=runtime.clock())
    if result is Result.OPEN:
        raise NothingToNotify(f"it is {job.status} and has no outcome to report yet")
    if result is Result.SILENT:
        raise NothingToNotify("its request has no notify_url, notify_task or notify_stream")
    if result is Result.MISSING:
        raise NothingToNotify("it has expired; jobs are kept for the retention time")
    if job.request.notify_url and job.request.notifies:
        runtime.ledger.circuit_breaker.forget(job.request.notifies)
    runtime.nudger.nudge(Step.NOTIFY, [job.id])
    runtime.audit(actor, "notify", job.id, tenant=job.tenant)
    log.get().info("notify_again", job=job.id, to=job.request.notifies)


def failed_notifications(
    runtime: Runtime, *, since: int = 0, limit: int = PAGE_JOBS
) -> tuple[int, list[Job]]:
    """Return the number of notifications that failed since a time (ms), and the oldest jobs.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, entries = runtime.ledger.follow_ups.dead(limit, since=since)
    jobs = runtime.ledger.overview.jobs([entry.job_id for entry in entries])
    return number, list(jobs.values())
