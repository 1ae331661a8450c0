"""Sends notifications again: of a job, of a batch, or all that failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator import log
from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import FollowUpStatus, Job, Step
from orchestrator.ledger import Result
from orchestrator.operations.filters import read_query
from orchestrator.operations.search import FoundJobs, search
from orchestrator.runtime import Runtime

#: Failed notifications that are read at once.
PAGE_JOBS = 1000
#: Why a job without an outcome has no notification. It has a place for the status.
_NO_OUTCOME = "it is {} and has no outcome to report yet; wait for it"
#: Why a job without a receiver has no notification.
NO_RECEIVER = "its request has no notify_url, notify_task or notify_stream"


class NothingToNotify(Exception):
    """There is no notification to send. The message is the reason."""


def notify_again(runtime: Runtime, job: Job, *, actor: str) -> None:
    """Send a job's notification again, soon, with the same message id. A pause of the host ends.

    Raises:
        NothingToNotify: the job has no outcome yet, or its request names no receiver.
        LedgerUnavailable: Redis is away.
    """
    notify_unaudited(runtime, job)
    runtime.audit(actor, "notify", job.id, tenant=job.tenant)
    log.get().info("notify_again", job=job.id, to=job.request.notifies)


def notify_unaudited(runtime: Runtime, job: Job, *, since: int | None = None) -> None:
    """Send a notification again for a caller that has its own entry in the audit trail.

    Args:
        runtime: of this process.
        job: the job.
        since: a notification that was scheduled at this time (ms) or later is left as it is.

    Raises:
        NothingToNotify, LedgerUnavailable: as for `notify_again`.
    """
    result = runtime.ledger.follow_ups.notify_again(job.id, now=runtime.clock(), since=since)
    if result is Result.MISSING:
        raise NothingToNotify("it has expired; jobs are kept for the retention time")
    if result is Result.OPEN:
        raise NothingToNotify(_NO_OUTCOME.format(job.status))
    if result is Result.SILENT:
        raise NothingToNotify(NO_RECEIVER)
    if result is Result.DUPLICATE:
        return
    if job.request.notify_url and job.request.notifies:
        runtime.ledger.circuit_breaker.forget(job.request.notifies)
    runtime.nudger.nudge(Step.NOTIFY, [job.id])


def notify_batch_again(runtime: Runtime, batch: Batch, *, actor: str) -> None:
    """Send a batch's notification again, soon, with the same message id. A pause of the host ends.

    Raises:
        NothingToNotify: the batch is not completed, or its request named no receiver.
        LedgerUnavailable: Redis is away.
    """
    result = runtime.ledger.batches.notify_again(batch.id, now=runtime.clock())
    if result is Result.MISSING:
        raise NothingToNotify("it has expired; batches are kept for the retention time")
    if result is Result.OPEN:
        raise NothingToNotify("it is open; its notification follows when every job has its outcome")
    if result is Result.SILENT:
        raise NothingToNotify(NO_RECEIVER)
    if batch.receiver.notify_url and batch.receiver.name:
        runtime.ledger.circuit_breaker.forget(batch.receiver.name)
    runtime.nudger.nudge(Step.BATCH, [batch.id])
    runtime.audit(actor, "notify", batch.id, tenant=batch.tenant)
    log.get().info("notify_again", batch=batch.id, to=batch.receiver.name)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of some notifications.

    Attributes:
        begun: the jobs whose notification is sent again.
        refused: why another job has none, by its id.
    """

    begun: list[str]
    refused: dict[str, str]


def notify_all_again(runtime: Runtime, jobs: Iterable[Job], *, actor: str) -> Replayed:
    """Send the notifications of some jobs again. A job without one does not stop the others.

    Raises:
        LedgerUnavailable: Redis is away. Some may be sent already.
    """
    begun: list[str] = []
    refused: dict[str, str] = {}
    for job in jobs:
        try:
            notify_again(runtime, job, actor=actor)
            begun.append(job.id)
        except NothingToNotify as error:
            refused[job.id] = str(error)
    return Replayed(begun, refused)


def check_notifiable(job: Job) -> None:
    """Check that a job has a notification to send.

    Raises:
        NothingToNotify: the job has no outcome yet, or its request names no receiver.
    """
    if not job.status.terminal:
        raise NothingToNotify(_NO_OUTCOME.format(job.status))
    if not job.request.notifies:
        raise NothingToNotify(NO_RECEIVER)


def failed_page(
    runtime: Runtime, *, tenant: str | None = None, limit: int, cursor: str | None = None
) -> FoundJobs:
    """Return a page of the jobs whose notification failed, newest job first.

    A bulk action with the filter `notification` = `dead` sends all of them again.

    Args:
        runtime: of this process.
        tenant: the owner of the jobs; None: all tenants.
        limit: the most jobs of the page.
        cursor: the cursor of the page before.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    given = {"notification": FollowUpStatus.DEAD.value}
    filters = given if tenant is None else {**given, "tenant": tenant}
    query = read_query(runtime, filters.items())
    return search(runtime, query, limit=limit, cursor=cursor)


def failed_notifications(
    runtime: Runtime, *, since: int = 0, limit: int = PAGE_JOBS
) -> tuple[int, list[Job], list[str]]:
    """Return the number of notifications that failed since a time (ms), and the oldest jobs.

    Beside them are the ids of those that this version cannot read.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, entries = runtime.ledger.follow_ups.dead(limit, since=since)
    jobs, lost = runtime.ledger.overview.readable_jobs([entry.job_id for entry in entries])
    return number, list(jobs.values()), [each.job_id for each in lost]
