"""The confirm step: query a task whose callback came too late for a poll.

The callback did not show the images: it had them inside, it was too long or unreadable, or the
provider's callbacks are only hints. The job has its outcome, or a newer attempt. Images that the
query returns are kept as a late result.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import log, tracing
from orchestrator.jobs.model import (
    DEFAULT_LINK_LIFETIME_MS,
    Attempt,
    FollowUp,
    FollowUpStatus,
    Job,
    SettledBy,
    Status,
    Step,
)
from orchestrator.ledger import Lease
from orchestrator.operations.inline_images import store_inline_images
from orchestrator.providers.responses import QueryFailed, TaskReport
from orchestrator.runtime import Runtime
from orchestrator.steps.evidence import MIN_QUERIES, Reading, summary
from orchestrator.steps.query import next_query_wait, query_lease_ms, query_task
from orchestrator.storage.storage import StorageError

#: While no query is answered, tries end after this time: no link is known to live longer. ms.
MAX_TRYING_MS = DEFAULT_LINK_LIFETIME_MS


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """An attempt whose images are not known yet: the last answer, and why it is not enough."""

    provider: str
    reading: Reading
    reason: str
    #: The provider was not reached, or our storage failed. This says nothing about the task.
    failed: bool


def confirm(runtime: Runtime, job_id: str) -> None:
    """Do the confirm step of a job, if its confirmation is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings the job back.
    """
    step_ms = query_lease_ms(runtime)
    lease = runtime.ledger.follow_ups.claim(
        job_id, Step.CONFIRM, now=runtime.clock(), lease_ms=2 * step_ms
    )
    if lease is None:
        return
    with tracing.step_span(Step.CONFIRM, job_id, lease.job.provider, lease.job.trace):
        _query_attempts(runtime, lease, step_ms)


def _query_attempts(runtime: Runtime, lease: Lease, step_ms: int) -> None:
    left: list[_Unanswered] = []
    for attempt in _attempts(lease.job):
        if runtime.clock() + step_ms > lease.ends_at:
            _later(runtime, lease, 0.0, None, "")  # the lease is too short for another query
            return
        unanswered = _confirm(runtime, lease.job, attempt)
        left += [unanswered] if unanswered else []
    if not left:
        _end(runtime, lease, FollowUpStatus.DONE, "")
    elif _is_over(runtime, lease.job, left):
        _end(runtime, lease, FollowUpStatus.DEAD, left[0].reason)
    else:
        tries = _tries(lease.job)
        waits = [next_query_wait(runtime, e.provider, e.reading, tries) for e in left]
        _later(runtime, lease, max(waits), _tries(lease.job) + 1, left[0].reason)


def _attempts(job: Job) -> list[Attempt]:
    return [attempt for attempt in job.attempts if attempt.number in job.confirms_attempts]


def _confirm(runtime: Runtime, job: Job, attempt: Attempt) -> _Unanswered | None:
    """Query the task of an attempt, and keep its images. Return None if the answer is final."""
    provider, reading = job.provider_of(attempt.number), query_task(runtime, job, attempt)
    outcome = reading.outcome if isinstance(reading, TaskReport) else None
    if outcome is None:
        return _Unanswered(provider, reading, summary(reading), isinstance(reading, QueryFailed))
    if outcome.status is not Status.SUCCEEDED:
        return None
    try:
        outcome = store_inline_images(runtime, job.id, outcome)
    except StorageError as error:
        return _Unanswered(provider, reading, f"our storage: {error}", failed=True)
    settlement = runtime.ledger.settle_attempt(
        job.id,
        attempt.number,
        attempt.task_id or "",
        outcome,
        now=runtime.clock(),
        by=SettledBy.POLL,
    )
    result = runtime.nudge_due(job.id, settlement)
    _log(job, "late_result_confirmed", attempt=attempt.number, result=result)
    return None


def _is_over(runtime: Runtime, job: Job, left: list[_Unanswered]) -> bool:
    """Return whether the tries end: long enough, every answer had no images."""
    trying_ms = runtime.clock() - (_state(job).since or runtime.clock())
    if any(unanswered.failed for unanswered in left):
        return trying_ms >= MAX_TRYING_MS
    search_ms = runtime.settings.thin_success_seconds * 1000
    return trying_ms >= search_ms and _tries(job) + 1 >= MIN_QUERIES


def _later(runtime: Runtime, lease: Lease, wait: float, tries: int | None, error: str) -> None:
    now = runtime.clock()
    due_at = now + int(wait * 1000)
    result = runtime.ledger.follow_ups.later(
        lease, Step.CONFIRM, now=now, due_at=due_at, tries=tries, error=error
    )
    _log(lease.job, "confirm_failed", reason=error, wait=round(wait), result=result)


def _end(runtime: Runtime, lease: Lease, ended: FollowUpStatus, error: str) -> None:
    tries = _tries(lease.job) + 1
    result = runtime.ledger.follow_ups.done(
        lease, Step.CONFIRM, ended, now=runtime.clock(), tries=tries, error=error
    )
    _log(lease.job, f"confirm_{ended}", reason=error, result=result)


def _state(job: Job) -> FollowUp:
    return job.confirmation or FollowUp(FollowUpStatus.PENDING)


def _tries(job: Job) -> int:
    return _state(job).tries


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, provider=job.provider, **details)
