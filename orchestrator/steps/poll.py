"""The poll step: query a provider task without a callback."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log
from orchestrator.backoff import NOT_FOUND_TOLERANCE_SECONDS, back_off
from orchestrator.jobs.model import ErrorCode, Job, JobError, Outcome, SettledBy, Step
from orchestrator.ledger import Lease
from orchestrator.operations.cost import computed_cost
from orchestrator.providers.client import NoAnswer, NotSent
from orchestrator.providers.responses import QueryFailed, TaskNotFound, TaskReport
from orchestrator.runtime import Runtime
from orchestrator.steps.submit import lease_ms

#: The wait between polls of a provider that is switched off. Seconds.
SWITCHED_OFF_SECONDS = 60.0


def poll(runtime: Runtime, job_id: str) -> None:
    """Do the poll step of a job, if the job is due and not leased.

    A job past its deadline is polled once more and then fails.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the agenda brings the job back.
    """
    claimed_at = runtime.clock()
    lease = runtime.ledger.claim(job_id, Step.POLL, now=claimed_at, lease_ms=lease_ms(runtime))
    if lease is None:
        return
    reading = _ask(runtime, lease.job)
    now = runtime.clock()
    outcome, by = _outcome(
        runtime, lease.job, reading, now, late=claimed_at >= lease.job.deadline_at
    )
    if outcome:
        outcome = _with_cost(runtime, lease.job, outcome)
        settlement = runtime.ledger.settle(lease, outcome, by, now=now)
        result = runtime.nudge_due(lease.job.id, settlement)
        _log(lease.job, "job_settled", status=outcome.status, by=by, result=result)
    else:
        _defer(runtime, lease, reading, now)


def _ask(runtime: Runtime, job: Job) -> TaskReport | TaskNotFound | QueryFailed:
    enabled, task_id = runtime.enabled_provider(job.request.provider), job.attempt.task_id
    if enabled is None or task_id is None:
        reason = f"{job.request.provider} is switched off, because its API key is not set"
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, SWITCHED_OFF_SECONDS)
    provider, settings = enabled
    answer = runtime.call_provider(provider, provider.query_call(task_id), settings)
    if isinstance(answer, NotSent | NoAnswer):
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, answer.reason, retryable=True)
        return QueryFailed(error)
    reading = provider.read_query(answer, runtime.clock())
    if isinstance(reading, TaskReport) and reading.task_id != task_id:
        message = f"queried {task_id}, but the answer is about {reading.task_id}"
        return QueryFailed(JobError(ErrorCode.UNKNOWN, message))
    return reading


def _outcome(
    runtime: Runtime,
    job: Job,
    reading: TaskReport | TaskNotFound | QueryFailed,
    now: int,
    *,
    late: bool,
) -> tuple[Outcome | None, SettledBy]:
    if isinstance(reading, TaskReport) and reading.outcome:
        return reading.outcome, SettledBy.POLL
    if late:
        error = JobError(
            ErrorCode.DEADLINE_EXCEEDED, f"no outcome by the deadline; {_news(reading)}"
        )
        return Outcome.failed(error), SettledBy.DEADLINE
    if isinstance(reading, TaskNotFound) and _forgotten(runtime, job, now):
        error = JobError(ErrorCode.NOT_FOUND, "the provider does not know its task any more")
        return Outcome.failed(error), SettledBy.POLL
    return None, SettledBy.POLL


def _with_cost(runtime: Runtime, job: Job, outcome: Outcome) -> Outcome:
    """Return the outcome with a computed cost, unless the provider reported one."""
    enabled = runtime.enabled_provider(job.request.provider)
    reported = outcome.cost or (job.cost and job.cost.source == "reported")
    if reported or enabled is None:
        return outcome
    return replace(outcome, cost=computed_cost(*enabled, job, outcome))


def _forgotten(runtime: Runtime, job: Job, now: int) -> bool:
    """Return whether "not found" is final: some time passed, and no callback can come."""
    enabled = runtime.enabled_provider(job.request.provider)
    awaited = enabled is not None and runtime.calls_back(enabled[0])
    return not awaited and now - job.attempt.submitted_at > NOT_FOUND_TOLERANCE_SECONDS * 1000


def _defer(
    runtime: Runtime, lease: Lease, reading: TaskReport | TaskNotFound | QueryFailed, now: int
) -> None:
    job, settings = lease.job, runtime.settings.providers.get(lease.job.request.provider)
    wait = reading.retry_after if isinstance(reading, QueryFailed) else None
    if wait is None:
        first = settings.poll_seconds if settings else SWITCHED_OFF_SECONDS
        longest = settings.max_poll_seconds if settings else SWITCHED_OFF_SECONDS
        wait = back_off(job.tries, first, longest, runtime.random)
    due_at = min(now + int(wait * 1000), max(job.deadline_at, now))
    result = runtime.ledger.defer(
        lease, now=now, due_at=due_at, tries=job.tries + 1, detail={"state": _news(reading)}
    )
    _log(job, "job_polled", state=_news(reading), result=result)


def _news(reading: TaskReport | TaskNotFound | QueryFailed) -> str:
    """Return the news of a poll as a short text."""
    if isinstance(reading, TaskReport):
        return reading.state[:100]
    if isinstance(reading, TaskNotFound):
        return "not found"
    return f"{reading.error.code}: {reading.error.message}"[:200]


def _log(job: Job, event: str, **details: object) -> None:
    provider, attempt = job.request.provider, job.attempt.number
    log.get().info(event, job=job.id, provider=provider, attempt=attempt, **details)
