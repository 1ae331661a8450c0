"""The poll step: query a provider task without a callback."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log
from orchestrator.backoff import asked_wait, back_off
from orchestrator.jobs.model import ErrorCode, Job, JobError, Outcome, SettledBy, Step
from orchestrator.ledger import Lease
from orchestrator.operations.cost import computed_cost
from orchestrator.operations.inline_images import store_inline_images
from orchestrator.providers.client import NoAnswer, NotSent
from orchestrator.providers.responses import QueryFailed, TaskReport
from orchestrator.runtime import Runtime
from orchestrator.steps import adapters
from orchestrator.steps.evidence import Judgement, Reading, judge, looks_until, news
from orchestrator.steps.pause import pause_after
from orchestrator.steps.submit import lease_ms
from orchestrator.storage.storage import StorageError

#: The wait between polls of a provider that is switched off. Seconds.
SWITCHED_OFF_SECONDS = 60.0


def poll(runtime: Runtime, job_id: str) -> None:
    """Do the poll step of a job, if the job is due and not leased.

    A job past its deadline is polled once more and then fails. After a success without a result
    the provider is asked again for a while, also past the deadline.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the agenda brings the job back.
    """
    claimed_at = runtime.clock()
    lease = runtime.ledger.claim(
        job_id,
        Step.POLL,
        now=claimed_at,
        lease_ms=lease_ms(runtime),
        random=runtime.random(),
    )
    if not isinstance(lease, Lease):
        return
    reading = _ask(runtime, lease.job)
    judgement = _judge(runtime, lease.job, reading, late=claimed_at >= lease.job.deadline_at)
    if judgement.outcome:
        try:
            outcome = _stored(runtime, lease.job, judgement.outcome)
        except StorageError as error:
            problem = JobError(ErrorCode.UNKNOWN, f"our storage: {error}", retryable=True)
            _defer(runtime, lease, QueryFailed(problem), Judgement())
        else:
            _settle(runtime, lease, outcome, judgement.settled_by)
    else:
        _defer(runtime, lease, reading, judgement)


def _ask(runtime: Runtime, job: Job) -> Reading:
    enabled, task_id = runtime.enabled_provider(job.request.provider), job.attempt.task_id
    if enabled is None or task_id is None:
        reason = f"{job.request.provider} is switched off, because its API key is not set"
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, SWITCHED_OFF_SECONDS)
    provider, settings = enabled
    call = adapters.query_call(provider, job, task_id)
    if isinstance(call, QueryFailed):
        return call
    answer = runtime.call_provider(provider, call, settings)
    if isinstance(answer, NotSent | NoAnswer):
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, answer.reason, retryable=True)
        return QueryFailed(error)
    reading = adapters.read_query(provider, job, answer, runtime.clock())
    if isinstance(reading, TaskReport) and reading.task_id != task_id:
        message = f"queried {task_id}, but the answer is about {reading.task_id}"
        return QueryFailed(JobError(ErrorCode.UNKNOWN, message))
    return reading


def _judge(runtime: Runtime, job: Job, reading: Reading, *, late: bool) -> Judgement:
    enabled = runtime.enabled_provider(job.request.provider)
    return judge(
        job,
        reading,
        runtime.clock(),
        late=late,
        awaits_callback=enabled is not None and runtime.calls_back(enabled[0]),
        look_ms=_look_ms(runtime),
    )


def _stored(runtime: Runtime, job: Job, outcome: Outcome) -> Outcome:
    """Store the images inside the answer. They can be had again until the deadline has passed.

    Raises:
        StorageError: our storage failed, and the provider may be asked again.
    """
    try:
        return store_inline_images(runtime, job.id, outcome)
    except StorageError as error:
        if runtime.clock() < job.deadline_at + _look_ms(runtime):
            raise
        lost = f"our storage: {error}"
        images = (replace(each, content=None, error=lost) for each in outcome.images)
        return replace(outcome, images=tuple(images))


def _look_ms(runtime: Runtime) -> int:
    return int(runtime.settings.thin_success_seconds * 1000)


def _settle(runtime: Runtime, lease: Lease, outcome: Outcome, by: SettledBy) -> None:
    outcome = _with_cost(runtime, lease.job, outcome)
    settlement = runtime.ledger.settle(lease, outcome, by, now=runtime.clock())
    result = runtime.nudge_due(lease.job.id, settlement)
    _log(lease.job, "job_settled", status=outcome.status, by=by, result=result)


def _with_cost(runtime: Runtime, job: Job, outcome: Outcome) -> Outcome:
    """Return the outcome with a computed cost, unless the provider reported one."""
    enabled = runtime.enabled_provider(job.request.provider)
    reported = outcome.cost or (job.cost and job.cost.source == "reported")
    if reported or enabled is None:
        return outcome
    return replace(outcome, cost=computed_cost(*enabled, job, outcome))


def _defer(runtime: Runtime, lease: Lease, reading: Reading, judgement: Judgement) -> None:
    job, now, pending = lease.job, runtime.clock(), judgement.pending
    settings = runtime.settings.providers.get(job.request.provider)
    first = settings.poll_seconds if settings else SWITCHED_OFF_SECONDS
    longest = settings.max_poll_seconds if settings else SWITCHED_OFF_SECONDS
    tries, ends_at = job.tries, job.deadline_at
    if pending and pending.kind == "thin_success":
        tries, ends_at = pending.polls - 1, looks_until(pending, _look_ms(runtime))
    wait = back_off(max(tries, 0), first, longest, runtime.random)
    if isinstance(reading, QueryFailed):
        wait = asked_wait(wait, reading.retry_after, runtime.random)
        if settings:  # a process without the API key pauses nothing for the others
            pause_after(runtime, job, Step.POLL, reading, wait)
    result = runtime.ledger.defer(
        lease,
        now=now,
        due_at=now + int(wait * 1000) if now >= ends_at else min(now + int(wait * 1000), ends_at),
        tries=job.tries + 1,
        detail={"state": news(reading)},
        pending_failure=pending,
    )
    _log(job, "job_polled", state=news(reading), result=result)


def _log(job: Job, event: str, **details: object) -> None:
    provider, attempt = job.request.provider, job.attempt.number
    log.get().info(event, job=job.id, provider=provider, attempt=attempt, **details)
