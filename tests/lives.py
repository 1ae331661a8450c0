"""Jobs in every state, in a world: what tests of lists, figures and checks look at."""

from __future__ import annotations

from typing import Any

from orchestrator.jobs import ErrorCode, Image, JobError, Outcome, SettledBy, Step
from orchestrator.ledger import Lease
from tests.fakes import World

LEASE_MS = 45_000
SUCCESS = Outcome.succeeded((Image("https://images.example/0.png"),))


def failure(code: ErrorCode = ErrorCode.CONTENT_POLICY) -> Outcome:
    return Outcome.failed(JobError(code, "no"))


def claimed(world: World, job_id: str, step: Step = Step.SUBMIT) -> Lease:
    lease = world.ledger.claim(job_id, step, now=world.clock.now, lease_ms=LEASE_MS)
    assert lease is not None
    return lease


def submitting(world: World, provider: str = "hiapi", **fields: Any) -> Lease:
    return claimed(world, world.enqueue(provider, **fields))


def unconfirmed(world: World, provider: str = "hiapi", **fields: Any) -> str:
    """A job whose attempt got no answer, due at once; its id."""
    lease, now = submitting(world, provider, **fields), world.clock.now
    world.ledger.unconfirmed(lease, now=now, next_look=now, tries=1, reason="reset")
    return lease.job.id


def given_up(world: World, provider: str = "hiapi", **fields: Any) -> str:
    """A job that failed with an attempt of unknown fate; its id."""
    lease = claimed(world, unconfirmed(world, provider, **fields))
    outcome = failure(ErrorCode.SUBMISSION_UNCONFIRMED)
    world.ledger.settle(lease, outcome, SettledBy.DEADLINE, now=world.clock.now)
    return lease.job.id


def resubmitted(world: World, provider: str = "hiapi", **fields: Any) -> Lease:
    """A job whose first attempt is of unknown fate, and whose second is on its way."""
    lease, now = claimed(world, unconfirmed(world, provider, **fields)), world.clock.now
    world.ledger.requeue(lease, now=now, next_look=now, tries=0, event="resubmitted", detail={})
    return claimed(world, lease.job.id)


def running(world: World, provider: str = "hiapi", **fields: Any) -> str:
    """A job whose provider task is called after it; its id."""
    job_id = submitting(world, provider, **fields).job.id
    now = world.clock.now
    world.ledger.accepted(job_id, 1, task_of(job_id), now=now, next_look=now + 30_000)
    return job_id


def task_of(job_id: str, attempt: int = 1) -> str:
    return f"task-{job_id}-{attempt}"


def ended(world: World, outcome: Outcome = SUCCESS, provider: str = "hiapi", **fields: Any) -> str:
    """A job with this outcome, by callback; its id."""
    job_id = running(world, provider, **fields)
    world.ledger.settle_attempt(job_id, 1, task_of(job_id), outcome, now=world.clock.now)
    return job_id


def refused(world: World, provider: str = "hiapi", **fields: Any) -> str:
    """A job that its provider refused: certainly not paid; its id."""
    lease = submitting(world, provider, **fields)
    world.ledger.settle(lease, failure(), SettledBy.SUBMIT, now=world.clock.now)
    return lease.job.id


def cancelled(world: World, provider: str = "hiapi", **fields: Any) -> str:
    job_id = world.enqueue(provider, **fields)
    world.ledger.cancel(job_id, now=world.clock.now)
    return job_id
