"""The notify step: send a job's outcome to its caller."""

from __future__ import annotations

from orchestrator import log, tracing
from orchestrator.delivery import schedule
from orchestrator.delivery.message import message
from orchestrator.delivery.targets import TIMEOUT_SECONDS, Delivery, deliver
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job, Step
from orchestrator.ledger import Lease
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import AGAIN
from orchestrator.runtime import Runtime

#: The lease on a notification: its timeout, and time for the claim, the record and delays. ms.
LEASE_MS = int(TIMEOUT_SECONDS * 1000) + 10_000


def notify(runtime: Runtime, job_id: str) -> None:
    """Do the notify step of a job, if its notification is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings the job back.
    """
    now = runtime.clock()
    lease = runtime.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=now, lease_ms=LEASE_MS)
    if lease is None:
        return
    with (
        runtime.timings.measured(metrics.NOTIFY_SECONDS) as measured,
        tracing.step_span(Step.NOTIFY, job_id, lease.job.provider, lease.job.trace),
    ):
        result = _send(runtime, lease, now)
        measured.labels = (result,) if result else None


def _send(runtime: Runtime, lease: Lease, now: int) -> str | None:
    """Send a leased notification. Return the result for `/metrics`; None: it was not tried."""
    if not lease.job.request.notify_url:
        return _send_inside(runtime, lease, now)
    host, tenant = lease.job.request.notifies or "", lease.job.tenant
    hosts, limiter = runtime.ledger.circuit_breaker, runtime.host_limiter
    wait = limiter.acquire(hosts, host, tenant, now, runtime.random)
    if wait is not None:
        _wait(runtime, lease, wait)
        return None
    host_works: bool | None = None
    try:
        delivery = _deliver(runtime, lease.job)
        host_works = delivery.host_works
    finally:
        limiter.release(hosts, host, tenant, runtime.clock(), works=host_works)
    return _record(runtime, lease, delivery)


def _send_inside(runtime: Runtime, lease: Lease, now: int) -> str | None:
    """Send to a Celery task or a stream. The tenants share the threads here, too."""
    shares, tenant = runtime.host_limiter.shares, lease.job.tenant
    wait = shares.reserve(tenant, None, now, runtime.random)
    if wait is not None:
        _wait(runtime, lease, wait)
        return None
    try:
        delivery = _deliver(runtime, lease.job)
    finally:
        shares.free(tenant, None)
    return _record(runtime, lease, delivery)


def _deliver(runtime: Runtime, job: Job) -> Delivery:
    return deliver(runtime, job, message(job, runtime.settings.public_url))


def _wait(runtime: Runtime, lease: Lease, seconds: float) -> None:
    """Try later, because the host is busy or paused. Give up when this lasts for days."""
    job, now = lease.job, runtime.clock()
    notification = job.notification or FollowUp(FollowUpStatus.PENDING)
    # The time counts from the last try: the last waits of the schedule are long.
    since = max(notification.since or now, notification.tried_at or 0)
    if now - since > schedule.LONGEST_PAUSE_SECONDS * 1000:
        reason = "its host was paused or busy for days"
        _end(runtime, lease, FollowUpStatus.DEAD, notification.tries, reason)
        return
    due_at = now + int(seconds * 1000)
    runtime.ledger.follow_ups.later(lease, Step.NOTIFY, now=now, due_at=due_at)


def _record(runtime: Runtime, lease: Lease, delivery: Delivery) -> str:
    tries = (lease.job.notification.tries if lease.job.notification else 0) + 1
    reason = delivery.reason
    if reason is None:
        return _end(runtime, lease, FollowUpStatus.DONE, tries)
    wait = schedule.wait_after(tries, delivery.retry_after, runtime.random)
    if delivery.gone or wait is None:
        ended = FollowUpStatus.GONE if delivery.gone else FollowUpStatus.DEAD
        return _end(runtime, lease, ended, tries, reason)
    now = runtime.clock()
    due_at = now + int(wait * 1000)
    result = runtime.ledger.follow_ups.later(
        lease, Step.NOTIFY, now=now, due_at=due_at, tries=tries, error=reason
    )
    _log(lease.job, "notify_failed", tries=tries, reason=reason, wait=round(wait), result=result)
    return AGAIN


def _end(
    runtime: Runtime, lease: Lease, ended: FollowUpStatus, tries: int, reason: str = ""
) -> str:
    result = runtime.ledger.follow_ups.done(
        lease, Step.NOTIFY, ended, now=runtime.clock(), tries=tries, error=reason
    )
    _log(lease.job, f"notify_{ended}", tries=tries, reason=reason, result=result)
    return ended.value


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, to=job.request.notifies, **details)
