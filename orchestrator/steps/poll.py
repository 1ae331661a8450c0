"""The poll step: query a provider task without a callback."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log, tracing
from orchestrator.jobs.model import Job, Outcome, SettledBy, Step
from orchestrator.ledger import Lease
from orchestrator.operations.cost import computed_cost
from orchestrator.operations.inline_images import store_inline_images, storing_ms, unstored
from orchestrator.providers.responses import QueryFailed
from orchestrator.runtime import Runtime
from orchestrator.steps.evidence import Judgement, Reading, judge, search_ends_at, summary
from orchestrator.steps.query import is_running, next_query_wait, query_lease_ms, query_task
from orchestrator.steps.submit import LEASE_MARGIN_MS
from orchestrator.storage.storage import StorageError


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
        lease_ms=query_lease_ms(runtime),
        random=runtime.random(),
    )
    if not isinstance(lease, Lease):
        return
    with tracing.step_span(Step.POLL, job_id, lease.job.provider, lease.job.trace):
        _poll(runtime, lease, claimed_at)


def _poll(runtime: Runtime, lease: Lease, claimed_at: int) -> None:
    reading = query_task(runtime, lease.job, lease.job.attempt)
    judgement = _judge(runtime, lease.job, reading, late=claimed_at >= lease.job.deadline_at)
    if judgement.outcome:
        try:
            outcome = _stored(runtime, lease, judgement.outcome)
        except StorageError as error:
            pending = unstored(str(error), runtime.clock())
            _defer(runtime, lease, QueryFailed(pending.error), Judgement(pending=pending))
        else:
            _settle(runtime, lease, outcome, judgement.settled_by)
    else:
        _defer(runtime, lease, reading, judgement)


def _judge(runtime: Runtime, job: Job, reading: Reading, *, late: bool) -> Judgement:
    enabled = runtime.enabled_provider(job.provider)
    return judge(
        job,
        reading,
        runtime.clock(),
        late=late,
        awaits_callback=enabled is not None and runtime.calls_back(enabled[0]),
        search_ms=_search_ms(runtime),
    )


def _stored(runtime: Runtime, lease: Lease, outcome: Outcome) -> Outcome:
    """Store the images inside the answer. They can be had again until the deadline has passed.

    Raises:
        StorageError: our storage failed, and the provider may be asked again.
    """
    job, takes_ms = lease.job, storing_ms(outcome)
    if takes_ms:  # so that no other worker stores the same meanwhile
        lease_ms = takes_ms + LEASE_MARGIN_MS
        runtime.ledger.extend(lease, now=runtime.clock(), lease_ms=lease_ms)
    try:
        return store_inline_images(runtime, job.id, outcome)
    except StorageError as error:
        if runtime.clock() < job.deadline_at + _search_ms(runtime):
            raise
        lost = f"our storage: {error}"
        images = (
            replace(each, content=None, error=lost, given_up=True)
            if each.content is not None
            else each
            for each in outcome.images
        )
        return replace(outcome, images=tuple(images))


def _search_ms(runtime: Runtime) -> int:
    return int(runtime.settings.thin_success_seconds * 1000)


def _settle(runtime: Runtime, lease: Lease, outcome: Outcome, by: SettledBy) -> None:
    outcome = _with_cost(runtime, lease.job, outcome)
    settlement = runtime.ledger.settle(lease, outcome, by, now=runtime.clock())
    result = runtime.nudge_due(lease.job.id, settlement)
    _log(lease.job, "job_settled", status=outcome.status, by=by, result=result)


def _with_cost(runtime: Runtime, job: Job, outcome: Outcome) -> Outcome:
    """Return the outcome with a computed cost, unless the provider reported one."""
    enabled = runtime.enabled_provider(job.provider)
    reported = outcome.cost or (job.cost and job.cost.source == "reported")
    if reported or enabled is None:
        return outcome
    return replace(outcome, cost=computed_cost(*enabled, job, outcome))


def _defer(runtime: Runtime, lease: Lease, reading: Reading, judgement: Judgement) -> None:
    job, now, pending = lease.job, runtime.clock(), judgement.pending
    tries, ends_at = job.tries, job.deadline_at
    if pending and pending.kind == "thin_success":
        tries, ends_at = pending.polls - 1, search_ends_at(pending, _search_ms(runtime))
    elapsed = (now - job.attempt.submitted_at) / 1000
    wait = next_query_wait(runtime, job.provider, reading, tries, elapsed=elapsed)
    result = runtime.ledger.defer(
        lease,
        now=now,
        due_at=now + int(wait * 1000) if now >= ends_at else min(now + int(wait * 1000), ends_at),
        tries=job.tries + 1,
        detail={"state": summary(reading)},
        pending_failure=pending,
        running=is_running(reading),
    )
    _log(job, "job_polled", state=summary(reading), result=result)


def _log(job: Job, event: str, **details: object) -> None:
    provider, attempt = job.provider, job.attempt.number
    log.get().info(event, job=job.id, provider=provider, attempt=attempt, **details)
