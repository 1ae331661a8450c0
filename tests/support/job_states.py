"""Jobs in every state, for tests of lists, figures and checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import ErrorCode, Image, JobError, Outcome, SettledBy, Step
from orchestrator.ledger import Lease, keys
from orchestrator.ledger.refusals import FORMAT
from tests.support.fakes import Harness
from tests.support.providers import EXAMPLE_REQUESTS

LEASE_MS = 45_000
SUCCESS = Outcome.succeeded((Image("https://images.example/0.png"),))


def failure(code: ErrorCode = ErrorCode.CONTENT_POLICY) -> Outcome:
    return Outcome.failed(JobError(code, "no"))


def claimed(harness: Harness, job_id: str) -> Lease:
    now = harness.runtime.clock()
    lease = harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=LEASE_MS)
    assert isinstance(lease, Lease)
    return lease


def submitting(harness: Harness, provider: str = "hiapi", **fields: Any) -> Lease:
    return claimed(harness, harness.enqueue(provider, **fields))


def unconfirmed(harness: Harness, provider: str = "hiapi", **fields: Any) -> str:
    """Return a job with an attempt without an answer. It is due at once."""
    lease, now = submitting(harness, provider, **fields), harness.clock.now
    harness.ledger.unconfirmed(lease, now=now, due_at=now, tries=1, reason="reset")
    return lease.job.id


def given_up(harness: Harness, provider: str = "hiapi", **fields: Any) -> str:
    """Return a job that failed with an unconfirmed attempt."""
    lease = claimed(harness, unconfirmed(harness, provider, **fields))
    outcome = failure(ErrorCode.SUBMISSION_UNCONFIRMED)
    settlement = harness.ledger.settle(lease, outcome, SettledBy.DEADLINE, now=harness.clock.now)
    harness.runtime.nudge_due(lease.job.id, settlement)
    return lease.job.id


def resubmitted(harness: Harness, provider: str = "hiapi", **fields: Any) -> Lease:
    """Return the lease of a job on its second attempt. The first attempt is unconfirmed."""
    lease, now = claimed(harness, unconfirmed(harness, provider, **fields)), harness.clock.now
    harness.ledger.requeue(lease, now=now, due_at=now, tries=0, event="resubmitted", detail={})
    return claimed(harness, lease.job.id)


def running(harness: Harness, provider: str = "hiapi", **fields: Any) -> str:
    """Return a running job. The id of its provider task comes from `task_of`."""
    job_id = submitting(harness, provider, **fields).job.id
    now = harness.clock.now
    harness.ledger.accepted(job_id, 1, task_of(job_id), now=now, due_at=now + 30_000)
    return job_id


def task_of(job_id: str) -> str:
    return f"task-{job_id}-1"


def ended(
    harness: Harness, outcome: Outcome = SUCCESS, provider: str = "hiapi", **fields: Any
) -> str:
    """Return a job that a callback settled with this outcome."""
    job_id = running(harness, provider, **fields)
    settlement = harness.ledger.settle_attempt(
        job_id, 1, task_of(job_id), outcome, now=harness.clock.now
    )
    harness.runtime.nudge_due(job_id, settlement)
    return job_id


def refused(harness: Harness, provider: str = "hiapi", **fields: Any) -> str:
    """Return a job that its provider refused, so it was not charged."""
    lease = submitting(harness, provider, **fields)
    settlement = harness.ledger.settle(lease, failure(), SettledBy.SUBMIT, now=harness.clock.now)
    harness.runtime.nudge_due(lease.job.id, settlement)
    return lease.job.id


def cancelled(harness: Harness, provider: str = "hiapi", **fields: Any) -> str:
    job_id = harness.enqueue(provider, **fields)
    harness.runtime.nudge_due(job_id, harness.ledger.cancel(job_id, now=harness.clock.now))
    return job_id


def keyed(harness: Harness, key: str, *, scope: str, tenant: str) -> str:
    """Return a queued job of an idempotency key. Another call returns the same job."""
    request = EXAMPLE_REQUESTS["hiapi"]
    return create_job(harness.runtime, request, scope=scope, tenant=tenant, key=key).job.id


#: Stored fields that this version cannot read. Each makes a job unreadable.
UNREADABLE_FIELDS: dict[str, dict[str, str | bytes]] = {
    "a status of a newer version": {"status": "dreaming"},
    "a request of a newer version": {"request": '{"hologram": 1}'},
    "a newer format": {"format": str(FORMAT + 1)},
    "a damaged number": {"attempt": "x"},
    "a damaged list": {"images": "["},
    "bytes that are not UTF-8": {"request": b"\xff"},
}


def make_unreadable(harness: Harness, job_id: str, fields: Mapping[str, str | bytes]) -> None:
    """Give a job fields that this version cannot read."""
    stored: dict[Any, Any] = dict(fields)
    harness.redis.hset(keys.job(job_id), mapping=stored)
