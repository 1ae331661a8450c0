"""Telling callers again: one job's, or all that were given up."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import Job, Step
from orchestrator.ledger import Result
from orchestrator.runtime import Runtime

#: How many dead notifications are read in one go.
PAGE = 1000


class NothingToTell(Exception):
    """The caller cannot be told; the message says why."""


def tell_again(runtime: Runtime, job: Job) -> None:
    """Have a job's caller told once more, soon, with the same message id.

    A host that was paused is asked again: whoever replays says that it is well.

    Raises:
        NothingToTell: the job has no outcome yet, or names no way to tell its caller.
        LedgerUnavailable: Redis is away.
    """
    result = runtime.ledger.follow_ups.notify_again(job.id, now=runtime.clock())
    if result is Result.OPEN:
        raise NothingToTell(f"it is {job.status}: its caller is told once it has its outcome")
    if result is Result.SILENT:
        raise NothingToTell("its request names no notify_url, notify_task or notify_stream")
    if result is Result.MISSING:
        raise NothingToTell("it is gone: done jobs are kept for the retention time")
    if job.request.notify_url and job.request.notifies:
        runtime.ledger.circuit_breaker.forget(job.request.notifies)
    runtime.nudger.nudge(Step.NOTIFY, [job.id])
    log.get().info("notify_again", job=job.id, to=job.request.notifies)


def dead(runtime: Runtime, *, since: int = 0, limit: int = PAGE) -> tuple[int, list[Job]]:
    """How many callers could not be told, of those given up since then (ms); and the oldest jobs.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, found = runtime.ledger.follow_ups.dead(limit, since=since)
    jobs = runtime.ledger.overview.jobs([entry.job_id for entry in found])
    return number, list(jobs.values())
