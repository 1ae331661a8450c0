"""Leases: one worker at a time, and what becomes of a job whose worker died."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, SettledBy, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, LOOK, NOW, SUCCESS, Wire


def test_claiming_a_queued_job_begins_its_first_attempt(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    lease = kit.claim(ledger, job_id, now=NOW + 5)

    assert lease.job == kit.job(ledger, job_id)
    assert lease.job.status is Status.SUBMITTING
    assert lease.job.attempts == (Attempt(1, NOW + 5),)
    assert lease.job.updated_at == NOW + 5
    assert lease.ends_at == NOW + 5 + LEASE
    assert kit.due_at(redis, job_id) == lease.ends_at
    assert kit.fields(redis, job_id)["lease"] == lease.token
    assert kit.names(ledger, job_id) == ["created", "submitting"]
    assert ledger.events(job_id)[-1].detail == {"attempt": 1}


def test_a_job_that_is_leased_cannot_be_claimed(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    for now in (NOW, lease.ends_at - 1):
        assert ledger.claim(lease.job.id, Step.SUBMIT, now=now, lease_ms=LEASE) is None


def test_times_are_compared_as_numbers(ledger: Ledger) -> None:
    early, late = kit.create(ledger, now=999), kit.create(ledger, now=1_000)

    assert ledger.claim(late, Step.SUBMIT, now=999, lease_ms=LEASE) is None
    assert ledger.claim(early, Step.SUBMIT, now=1_000, lease_ms=LEASE)


def test_one_of_thirty_two_workers_gets_the_lease(crowd: Ledger, real_redis: Redis) -> None:
    job_id = kit.create(crowd)

    leases = kit.together(32, lambda: crowd.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE))

    held = [lease for lease in leases if lease]
    assert len(held) == 1
    assert kit.fields(real_redis, job_id)["lease"] == held[0].token
    assert kit.job(crowd, job_id).attempts == (Attempt(1, NOW),)


def test_one_of_thirty_two_workers_gets_the_poll(crowd: Ledger) -> None:
    job_id = kit.running(crowd)

    leases = kit.together(32, lambda: crowd.claim(job_id, Step.POLL, now=LOOK, lease_ms=LEASE))

    assert len([lease for lease in leases if lease]) == 1


def test_every_lease_has_a_token_of_its_own(ledger: Ledger) -> None:
    tokens = {kit.submitting(ledger).token for _ in range(50)}

    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 12


def test_a_submission_whose_lease_ran_out_becomes_unconfirmed(ledger: Ledger) -> None:
    dead = kit.submitting(ledger)

    lease = kit.claim(ledger, dead.job.id, now=dead.ends_at)

    assert lease.token != dead.token
    assert lease.job.status is Status.UNCONFIRMED
    assert lease.job.attempts == dead.job.attempts, "no second attempt: that could pay twice"
    assert lease.job.tries == 0
    last = ledger.events(dead.job.id)[-1]
    assert (last.at, last.name) == (dead.ends_at, "unconfirmed")
    assert last.detail == {"attempt": 1, "reason": "lease ran out"}


def test_a_worker_that_lost_its_lease_is_stale(ledger: Ledger, redis: Redis) -> None:
    late = kit.submitting(ledger)
    kit.claim(ledger, late.job.id, now=late.ends_at)
    before = kit.everything(redis)

    assert kit.requeue(ledger, late) is Result.STALE
    assert kit.unconfirmed(ledger, late) is Result.STALE
    assert ledger.settle(late, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.STALE
    assert kit.everything(redis) == before


def test_a_poll_that_lost_its_lease_is_stale(ledger: Ledger, redis: Redis) -> None:
    late = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)
    kit.claim(ledger, late.job.id, Step.POLL, now=late.ends_at)
    before = kit.everything(redis)

    assert kit.defer(ledger, late) is Result.STALE
    assert ledger.settle(late, SUCCESS, SettledBy.POLL, now=NOW).result is Result.STALE
    assert kit.everything(redis) == before


def test_a_lease_on_an_earlier_attempt_does_not_fit_a_later_one(
    ledger: Ledger, redis: Redis
) -> None:
    lease = kit.resubmitting(ledger)
    earlier = replace(lease, job=replace(lease.job, attempts=lease.job.attempts[:1]))
    before = kit.everything(redis)

    assert kit.requeue(ledger, earlier) is Result.STALE
    assert kit.unconfirmed(ledger, earlier) is Result.STALE
    assert kit.everything(redis) == before


def test_the_provider_is_heard_even_when_the_lease_was_lost(ledger: Ledger) -> None:
    late = kit.submitting(ledger)
    kit.claim(ledger, late.job.id, now=late.ends_at)

    assert ledger.accepted(late.job.id, 1, "task-1", now=NOW, due_at=LOOK) is Result.RUNNING


@pytest.mark.parametrize(
    ("now", "status", "attempts"),
    [(DEADLINE - 1, Status.SUBMITTING, 1), (DEADLINE, Status.QUEUED, 0)],
)
def test_from_its_deadline_on_a_queued_job_is_claimed_without_an_attempt(
    ledger: Ledger, redis: Redis, now: int, status: Status, attempts: int
) -> None:
    lease = kit.claim(ledger, kit.create(ledger), now=now)

    assert lease.job.status is status
    assert len(lease.job.attempts) == attempts
    assert kit.fields(redis, lease.job.id)["lease"] == lease.token
    assert kit.due_at(redis, lease.job.id) == lease.ends_at


def test_a_job_past_its_deadline_is_settled_by_whoever_claimed_it(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.create(ledger), now=DEADLINE)

    assert ledger.settle(lease, FAILURE, SettledBy.DEADLINE, now=DEADLINE).result is Result.SETTLED

    settled = kit.job(ledger, lease.job.id)
    assert (settled.status, settled.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert settled.attempts == ()


def test_a_running_job_past_its_deadline_can_be_polled(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=DEADLINE + 1)

    assert lease.job.status is Status.RUNNING


def test_a_refused_attempt_is_followed_by_the_next_number(ledger: Ledger, redis: Redis) -> None:
    first = kit.submitting(ledger)

    assert kit.requeue(ledger, first) is Result.QUEUED

    waiting = kit.job(ledger, first.job.id)
    assert (waiting.status, waiting.tries) == (Status.QUEUED, 3)
    assert kit.due_at(redis, first.job.id) == LOOK
    assert "lease" not in kit.fields(redis, first.job.id)
    last = ledger.events(first.job.id)[-1]
    assert (last.name, last.detail) == ("deferred", {"attempt": 1, "code": "rate_limited"})
    second = kit.claim(ledger, first.job.id, now=LOOK)
    assert second.job.attempts == (Attempt(1, NOW), Attempt(2, LOOK))
    assert second.job.tries == 3, "the back-off goes on where it was"


def test_an_unconfirmed_attempt_is_looked_at_again_as_the_same_attempt(
    ledger: Ledger, redis: Redis
) -> None:
    first = kit.submitting(ledger)

    assert kit.unconfirmed(ledger, first) is Result.UNCONFIRMED

    assert kit.due_at(redis, first.job.id) == LOOK
    assert "lease" not in kit.fields(redis, first.job.id)
    last = ledger.events(first.job.id)[-1]
    assert (last.name, last.detail) == ("unconfirmed", {"attempt": 1, "reason": "no answer"})
    again = kit.claim(ledger, first.job.id, now=LOOK)
    assert again.job.status is Status.UNCONFIRMED
    assert again.job.attempts == first.job.attempts
    assert again.job.tries == 3


def test_a_job_remembers_that_it_bought_another_attempt(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    lease = kit.claim(ledger, lease.job.id)

    assert kit.resubmit(ledger, lease) is Result.QUEUED

    assert kit.job(ledger, lease.job.id).resubmitted
    assert kit.fields(redis, lease.job.id)["resubmitted"] == "1"
    assert kit.names(ledger, lease.job.id)[-1] == "resubmitted"
    assert kit.claim(ledger, lease.job.id).job.resubmitted


def test_a_refused_attempt_is_not_one_that_was_bought_again(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.requeue(ledger, lease)

    assert not kit.job(ledger, lease.job.id).resubmitted


def test_an_acceptance_plans_the_first_poll(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    lease = kit.claim(ledger, lease.job.id)

    result = ledger.accepted(lease.job.id, 1, "task-1", now=NOW + 7, due_at=LOOK)

    assert result is Result.RUNNING
    job = kit.job(ledger, lease.job.id)
    assert job.attempts == (Attempt(1, NOW, "task-1"),)
    assert (job.tries, job.updated_at) == (0, NOW + 7), "a new status counts its tries anew"
    assert kit.due_at(redis, job.id) == LOOK
    assert "lease" not in kit.fields(redis, job.id)
    last = ledger.events(job.id)[-1]
    assert (last.name, last.detail) == ("accepted", {"attempt": 1, "task_id": "task-1"})


def test_a_poll_without_an_outcome_plans_the_next_one(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)

    assert kit.defer(ledger, lease, due_at=LOOK + 9) is Result.DEFERRED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.tries) == (Status.RUNNING, 3)
    assert kit.due_at(redis, job.id) == LOOK + 9
    assert "lease" not in kit.fields(redis, job.id)
    last = ledger.events(job.id)[-1]
    assert (last.name, last.detail) == ("polled", {"state": "handling"})


def test_a_job_that_is_gone_is_missing_and_leaves_the_agenda(
    wired: Ledger, wire: Wire, redis: Redis
) -> None:
    job_id = kit.create(wired)
    redis.delete(keys.job(job_id))

    assert wired.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE) is None

    assert wire.answer == [Result.MISSING]
    assert kit.due_at(redis, job_id) is None


def test_a_claim_whose_answer_was_lost_gets_the_same_lease_again(
    wired: Ledger, wire: Wire, redis: Redis
) -> None:
    kit.submitting(wired)
    told, before = wire.answer, kit.everything(redis)

    assert wire.again() == told
    assert kit.everything(redis) == before
