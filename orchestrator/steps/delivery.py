"""Sends one notification: of a job, or of a batch. Their steps share the rules for tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orchestrator import log
from orchestrator.delivery import schedule
from orchestrator.delivery.message import Message
from orchestrator.delivery.targets import TIMEOUT_SECONDS, Delivery, deliver
from orchestrator.host_limiter import LONGEST_WAIT_SECONDS
from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job
from orchestrator.ledger import Result
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import AGAIN
from orchestrator.runtime import Runtime

#: The lease on a notification: its timeout, its wait for a slot of its host, and time for the
#: claim, the record and delays. ms.
LEASE_MS = int((TIMEOUT_SECONDS + LONGEST_WAIT_SECONDS) * 1000) + 10_000


class Later(Protocol):
    """Plans another try in the ledger."""

    def __call__(
        self, *, now: int, due_at: int, tries: int | None = None, error: str = ""
    ) -> Result:
        """Plan it at `due_at` (ms). `tries` is None when nothing was tried."""


class Done(Protocol):
    """Ends the notification in the ledger."""

    def __call__(self, ended: FollowUpStatus, *, now: int, tries: int, error: str = "") -> Result:
        """End it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification that this worker may send.

    Attributes:
        about: the job or the batch.
        message: makes the message.
        later: plans another try.
        done: ends the notification.
    """

    about: Job | Batch
    message: Callable[[], Message]
    later: Later
    done: Done

    @property
    def state(self) -> FollowUp:
        """The state of the notification."""
        return self.about.notification or FollowUp(FollowUpStatus.PENDING)


def send(runtime: Runtime, notice: Notice) -> None:
    """Send a notification, and record the try.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings it back.
    """
    with runtime.timings.measured(metrics.NOTIFY_SECONDS) as measured:
        result = _send(runtime, notice)
        measured.labels = (result,) if result else None


def _send(runtime: Runtime, notice: Notice) -> str | None:
    """Send a notification. Return the result for `/metrics`; None: it was not tried."""
    now, receiver, tenant = runtime.clock(), notice.about.receiver, notice.about.tenant
    if not receiver.notify_url:
        return _send_inside(runtime, notice, now)
    host = receiver.name or ""
    hosts, limiter = runtime.ledger.circuit_breaker, runtime.host_limiter
    wait = limiter.acquire(hosts, host, tenant, now, runtime.random)
    if wait is not None:
        _wait(runtime, notice, wait)
        return None
    host_works: bool | None = None
    try:
        delivery = deliver(runtime, receiver, tenant, notice.message())
        host_works = delivery.host_works
    finally:
        limiter.release(hosts, host, tenant, runtime.clock(), works=host_works)
    return _record(runtime, notice, delivery)


def _send_inside(runtime: Runtime, notice: Notice, now: int) -> str | None:
    """Send to a Celery task or a stream. The tenants share the places here, too."""
    shares, tenant = runtime.host_limiter.shares, notice.about.tenant
    wait = shares.reserve(tenant, None, now, runtime.random)
    if wait is not None:
        _wait(runtime, notice, wait)
        return None
    try:
        delivery = deliver(runtime, notice.about.receiver, tenant, notice.message())
    finally:
        shares.free(tenant, None)
    return _record(runtime, notice, delivery)


def _wait(runtime: Runtime, notice: Notice, seconds: float) -> None:
    """Try later, because the host is busy or paused. Give up when this lasts for days."""
    now, state = runtime.clock(), notice.state
    # The time counts from the last try: the last waits of the schedule are long.
    since = max(state.since or now, state.tried_at or 0)
    if now - since > schedule.LONGEST_PAUSE_SECONDS * 1000:
        reason = "its host was paused or busy for days"
        _end(runtime, notice, FollowUpStatus.DEAD, state.tries, reason)
        return
    notice.later(now=now, due_at=now + int(seconds * 1000))


def _record(runtime: Runtime, notice: Notice, delivery: Delivery) -> str:
    tries, reason = notice.state.tries + 1, delivery.reason
    if reason is None:
        return _end(runtime, notice, FollowUpStatus.DONE, tries)
    wait = schedule.wait_after(tries, delivery.retry_after, runtime.random)
    if delivery.gone or wait is None:
        ended = FollowUpStatus.GONE if delivery.gone else FollowUpStatus.DEAD
        return _end(runtime, notice, ended, tries, reason)
    now = runtime.clock()
    result = notice.later(now=now, due_at=now + int(wait * 1000), tries=tries, error=reason)
    _log(notice, "notify_failed", tries=tries, reason=reason, wait=round(wait), result=result)
    return AGAIN


def _end(
    runtime: Runtime, notice: Notice, ended: FollowUpStatus, tries: int, reason: str = ""
) -> str:
    result = notice.done(ended, now=runtime.clock(), tries=tries, error=reason)
    _log(notice, f"notify_{ended}", tries=tries, reason=reason, result=result)
    return ended.value


def _log(notice: Notice, event: str, **details: object) -> None:
    kind = "job" if isinstance(notice.about, Job) else "batch"
    about = {kind: notice.about.id, "to": notice.about.receiver.name}
    log.get().info(event, **about, **details)
