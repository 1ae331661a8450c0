"""The notify step: tell a job's caller of its outcome, once, or as often as it takes."""

from __future__ import annotations

from orchestrator import log
from orchestrator.delivery import schedule
from orchestrator.delivery.message import message
from orchestrator.delivery.targets import TIMEOUT, Delivery, deliver
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job, Step
from orchestrator.ledger import Lease
from orchestrator.runtime import Runtime

#: How long a notification is one worker's: its time-out, and time to claim, record, and stall. ms.
LEASE = int(TIMEOUT * 1000) + 10_000


def notify(runtime: Runtime, job_id: str) -> None:
    """Take the notify step with a job, if it is due and nobody else's.

    Raises:
        LedgerUnavailable: nothing is lost; the lease runs out and the sweep brings it back.
    """
    now = runtime.clock()
    lease = runtime.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=now, lease_ms=LEASE)
    if lease is None:
        return
    if not lease.job.request.notify_url:
        _record(runtime, lease, _tell(runtime, lease.job))
        return
    host = lease.job.request.notifies or ""
    hosts = runtime.ledger.circuit_breaker
    wait = runtime.host_limiter.acquire(hosts, host, now, runtime.random)
    if wait is not None:
        _wait(runtime, lease, wait)
        return
    works: bool | None = None
    try:
        delivery = _tell(runtime, lease.job)
        works = delivery.host_works
    finally:
        runtime.host_limiter.release(hosts, host, runtime.clock(), works=works)
    _record(runtime, lease, delivery)


def _tell(runtime: Runtime, job: Job) -> Delivery:
    return deliver(runtime, job.request, message(job, runtime.settings.public_url))


def _wait(runtime: Runtime, lease: Lease, seconds: float) -> None:
    """The host is busy or paused: come back without having tried, unless that has been so for long.

    A job must not wait for ever for a host that is gone.
    """
    job, now = lease.job, runtime.clock()
    told = job.notification or FollowUp(FollowUpStatus.PENDING)
    # From the last try on: the last waits of the schedule are long, and jitter adds to them.
    since = max(told.since or now, told.tried_at or 0)
    if now - since > schedule.PATIENCE * 1000:
        why = "its host was paused or busy for days"
        _end(runtime, lease, FollowUpStatus.DEAD, told.tries, why)
        return
    due_at = now + int(seconds * 1000)
    runtime.ledger.follow_ups.later(lease, Step.NOTIFY, now=now, due_at=due_at)


def _record(runtime: Runtime, lease: Lease, delivery: Delivery) -> None:
    tries = (lease.job.notification.tries if lease.job.notification else 0) + 1
    reason = delivery.reason
    if reason is None:
        _end(runtime, lease, FollowUpStatus.DONE, tries)
        return
    wait = schedule.wait_after(tries, delivery.retry_after, runtime.random)
    if delivery.gone or wait is None:
        ended = FollowUpStatus.GONE if delivery.gone else FollowUpStatus.DEAD
        _end(runtime, lease, ended, tries, reason)
        return
    now = runtime.clock()
    due_at = now + int(wait * 1000)
    result = runtime.ledger.follow_ups.later(
        lease, Step.NOTIFY, now=now, due_at=due_at, tries=tries, error=reason
    )
    _log(lease.job, "notify_failed", tries=tries, why=reason, wait=round(wait), result=result)


def _end(
    runtime: Runtime, lease: Lease, ended: FollowUpStatus, tries: int, reason: str = ""
) -> None:
    result = runtime.ledger.follow_ups.done(
        lease, Step.NOTIFY, ended, now=runtime.clock(), tries=tries, error=reason
    )
    _log(lease.job, f"notify_{ended}", tries=tries, why=reason, result=result)


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, to=job.request.notifies, **details)
