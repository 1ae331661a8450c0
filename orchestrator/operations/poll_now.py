"""Asks a provider about a job now, instead of at the time of the next poll."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import Job, Step
from orchestrator.ledger import Result
from orchestrator.runtime import Runtime

#: The shortest time between two such requests for a job, so that nobody floods a provider. Seconds.
MIN_INTERVAL_SECONDS = 10


class NothingToPoll(Exception):
    """There is no provider task to ask about. The message is the reason."""


class AskedRecently(Exception):
    """The job was asked about a moment ago."""

    def __init__(self) -> None:
        super().__init__(
            f"its provider was asked a moment ago; ask again after {MIN_INTERVAL_SECONDS} s"
        )


def poll_now(runtime: Runtime, job: Job, *, actor: str) -> None:
    """Make the poll of a running job due now. A worker does it a moment later.

    Raises:
        NothingToPoll: the job has its outcome, or its provider task is not known.
        AskedRecently: this was asked for less than MIN_INTERVAL_SECONDS ago.
        LedgerUnavailable: Redis is away.
    """
    interval_ms = MIN_INTERVAL_SECONDS * 1000
    result = runtime.ledger.agenda.poll_now(job.id, now=runtime.clock(), interval_ms=interval_ms)
    if result is Result.LIMITED:
        raise AskedRecently
    if result is Result.OPEN:
        raise NothingToPoll(
            f"it is {job.status}; its provider has not reported a task yet, so wait"
        )
    if result is not Result.RUNNING:
        raise NothingToPoll("it has ended, so there is nothing to poll")
    runtime.nudger.nudge(Step.POLL, [job.id], job.provider)
    runtime.audit(actor, "poll", job.id, tenant=job.tenant)
    log.get().info("poll_now", job=job.id)
