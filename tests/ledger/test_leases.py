"""Leases on jobs: one worker at a time, and the job of a worker that died."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, SettledBy, Status, Step
from orchestrator.ledger import Lease, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, NEXT_DUE, NOW, SUCCESS
from tests.ledger.recording import RecordingClient, comparable


def test_claiming_a_queued_job_starts_its_first_attempt(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    lease = kit.claim(ledger, job_id, now=NOW + 5)

    assert lease.job == kit.job(ledger, job_id)
    assert lease.job.status is Status.SUBMITTING
    assert lease.job.attempts == (Attempt(1, NOW + 5),)
    assert lease.job.updated_at == NOW + 5
    assert lease.ends_at == NOW + 5 + LEASE
    assert kit.due_at(redis, job_id) == lease.ends_at
    assert kit.fields(redis, job_id)["lease"] == lease.token
    assert kit.event_names(ledger, job_id) == ["created", "submitting"]
    assert ledger.events(job_id)[-1].detail == {"attempt": 1}


def test_a_leased_job_cannot_be_claimed(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    for now in (NOW, lease.ends_at - 1):
        assert ledger.claim(lease.job.id, Step.SUBMIT, now=now, lease_ms=LEASE) is None


def test_times_are_compared_as_numbers(ledger: Ledger) -> None:
    early, late = kit.create(ledger, now=999), kit.create(ledger, now=1_000)

    assert ledger.claim(late, Step.SUBMIT, now=999, lease_ms=LEASE) is None
    assert ledger.claim(early, Step.SUBMIT, now=1_000, lease_ms=LEASE)


def test_one_of_thirty_two_workers_gets_the_lease(shared_ledger: Ledger, real_redis: Redis) -> None:
    job_id = kit.create(shared_ledger)

    leases = kit.in_parallel(
        32, lambda: shared_ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE)
    )

    held = [lease for lease in leases if isinstance(lease, Lease)]
    assert len(held) == 1
    assert kit.fields(real_redis, job_id)["lease"] == held[0].token
    assert kit.job(shared_ledger, job_id).attempts == (Attempt(1, NOW),)


def test_one_of_thirty_two_workers_gets_the_poll(shared_ledger: Ledger) -> None:
    job_id = kit.running(shared_ledger)

    leases = kit.in_parallel(
        32, lambda: shared_ledger.claim(job_id, Step.POLL, now=NEXT_DUE, lease_ms=LEASE)
    )

    assert len([lease for lease in leases if lease]) == 1


def test_every_lease_has_its_own_token(ledger: Ledger) -> None:
    tokens = {kit.submitting(ledger).token for _ in range(50)}

    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 12


def test_a_submission_with_an_expired_lease_becomes_unconfirmed(ledger: Ledger) -> None:
    dead = kit.submitting(ledger)

    lease = kit.claim(ledger, dead.job.id, now=dead.ends_at)

    assert lease.token != dead.token
    assert lease.job.status is Status.UNCONFIRMED
    assert lease.job.attempts == dead.job.attempts, "a second attempt could be charged too"
    assert lease.job.tries == 0
    last = ledger.events(dead.job.id)[-1]
    assert (last.at, last.name) == (dead.ends_at, "unconfirmed")
    assert last.detail == {"attempt": 1, "reason": "lease ran out"}


def test_a_worker_without_the_lease_is_stale(ledger: Ledger, redis: Redis) -> None:
    late = kit.submitting(ledger)
    kit.claim(ledger, late.job.id, now=late.ends_at)
    before = kit.state(redis)

    assert kit.requeue(ledger, late) is Result.STALE
    assert kit.unconfirmed(ledger, late) is Result.STALE
    assert ledger.settle(late, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.STALE
    assert kit.state(redis) == before


def test_a_poll_without_the_lease_is_stale(ledger: Ledger, redis: Redis) -> None:
    late = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
    kit.claim(ledger, late.job.id, Step.POLL, now=late.ends_at)
    before = kit.state(redis)

    assert kit.defer(ledger, late) is Result.STALE
    assert ledger.settle(late, SUCCESS, SettledBy.POLL, now=NOW).result is Result.STALE
    assert kit.state(redis) == before


def test_a_lease_on_an_earlier_attempt_is_stale_for_a_later_one(
    ledger: Ledger, redis: Redis
) -> None:
    lease = kit.resubmitting(ledger)
    earlier = replace(lease, job=replace(lease.job, attempts=lease.job.attempts[:1]))
    before = kit.state(redis)

    assert kit.requeue(ledger, earlier) is Result.STALE
    assert kit.unconfirmed(ledger, earlier) is Result.STALE
    assert kit.state(redis) == before


def test_an_acceptance_needs_no_lease(ledger: Ledger) -> None:
    late = kit.submitting(ledger)
    kit.claim(ledger, late.job.id, now=late.ends_at)

    assert ledger.accepted(late.job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING


@pytest.mark.parametrize(
    ("now", "status", "attempts"),
    [(DEADLINE - 1, Status.SUBMITTING, 1), (DEADLINE, Status.QUEUED, 0)],
)
def test_a_claim_after_the_deadline_starts_no_attempt(
    ledger: Ledger, redis: Redis, now: int, status: Status, attempts: int
) -> None:
    lease = kit.claim(ledger, kit.create(ledger), now=now)

    assert lease.job.status is status
    assert len(lease.job.attempts) == attempts
    assert kit.fields(redis, lease.job.id)["lease"] == lease.token
    assert kit.due_at(redis, lease.job.id) == lease.ends_at


def test_the_holder_of_the_lease_settles_a_job_past_its_deadline(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.create(ledger), now=DEADLINE)

    assert ledger.settle(lease, FAILURE, SettledBy.DEADLINE, now=DEADLINE).result is Result.SETTLED

    settled = kit.job(ledger, lease.job.id)
    assert (settled.status, settled.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert settled.attempts == ()


def test_a_running_job_past_its_deadline_can_be_polled(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=DEADLINE + 1)

    assert lease.job.status is Status.RUNNING


def test_the_attempt_after_a_refused_one_has_the_next_number(ledger: Ledger, redis: Redis) -> None:
    first = kit.submitting(ledger)

    assert kit.requeue(ledger, first) is Result.QUEUED

    waiting = kit.job(ledger, first.job.id)
    assert (waiting.status, waiting.tries) == (Status.QUEUED, 3)
    assert kit.due_at(redis, first.job.id) == NEXT_DUE
    assert "lease" not in kit.fields(redis, first.job.id)
    last = ledger.events(first.job.id)[-1]
    assert (last.name, last.detail) == ("deferred", {"attempt": 1, "code": "rate_limited"})
    second = kit.claim(ledger, first.job.id, now=NEXT_DUE)
    assert second.job.attempts == (Attempt(1, NOW), Attempt(2, NEXT_DUE))
    assert second.job.tries == 3, "the back-off continues"


def test_an_unconfirmed_attempt_is_due_again_as_the_same_attempt(
    ledger: Ledger, redis: Redis
) -> None:
    first = kit.submitting(ledger)

    assert kit.unconfirmed(ledger, first) is Result.UNCONFIRMED

    assert kit.due_at(redis, first.job.id) == NEXT_DUE
    assert "lease" not in kit.fields(redis, first.job.id)
    last = ledger.events(first.job.id)[-1]
    assert (last.name, last.detail) == ("unconfirmed", {"attempt": 1, "reason": "no answer"})
    again = kit.claim(ledger, first.job.id, now=NEXT_DUE)
    assert again.job.status is Status.UNCONFIRMED
    assert again.job.attempts == first.job.attempts
    assert again.job.tries == 3


def test_a_resubmission_is_recorded_in_the_job(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    lease = kit.claim(ledger, lease.job.id)

    assert kit.resubmit(ledger, lease) is Result.QUEUED

    assert kit.job(ledger, lease.job.id).resubmitted
    assert kit.fields(redis, lease.job.id)["resubmitted"] == "1"
    assert kit.event_names(ledger, lease.job.id)[-1] == "resubmitted"
    assert kit.claim(ledger, lease.job.id).job.resubmitted


def test_a_refused_attempt_is_no_resubmission(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.requeue(ledger, lease)

    assert not kit.job(ledger, lease.job.id).resubmitted


def test_an_acceptance_schedules_the_first_poll(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    lease = kit.claim(ledger, lease.job.id)

    result = ledger.accepted(lease.job.id, 1, "task-1", now=NOW + 7, due_at=NEXT_DUE)

    assert result is Result.RUNNING
    job = kit.job(ledger, lease.job.id)
    assert job.attempts == (Attempt(1, NOW, "task-1"),)
    assert (job.tries, job.updated_at) == (0, NOW + 7), "a new status starts with no tries"
    assert kit.due_at(redis, job.id) == NEXT_DUE
    assert "lease" not in kit.fields(redis, job.id)
    last = ledger.events(job.id)[-1]
    assert (last.name, last.detail) == ("accepted", {"attempt": 1, "task_id": "task-1"})


def test_a_poll_without_an_outcome_schedules_the_next_poll(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    assert kit.defer(ledger, lease, due_at=NEXT_DUE + 9) is Result.DEFERRED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.tries) == (Status.RUNNING, 3)
    assert kit.due_at(redis, job.id) == NEXT_DUE + 9
    assert "lease" not in kit.fields(redis, job.id)
    last = ledger.events(job.id)[-1]
    assert (last.name, last.detail) == ("polled", {"state": "handling"})


def test_an_expired_job_is_missing_and_leaves_the_agenda(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    job_id = kit.create(recorded_ledger)
    redis.delete(keys.job(job_id))

    assert recorded_ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE) is None

    assert recorder.answer == [Result.MISSING]
    assert kit.due_at(redis, job_id) is None


def test_a_repeated_claim_returns_the_same_lease(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    kit.submitting(recorded_ledger)
    answer, before = recorder.answer, kit.state(redis)

    assert comparable(recorder.repeat()) == comparable(answer)
    assert kit.state(redis) == before


def test_a_lease_on_a_poll_may_be_extended(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
    later = NEXT_DUE + LEASE - 1

    assert ledger.extend(lease, now=later, lease_ms=3 * LEASE)

    assert kit.due_at(redis, lease.job.id) == later + 3 * LEASE
    assert ledger.agenda.due(0, now=later + 3 * LEASE - 1, limit=9) == []
    assert ledger.settle(lease, SUCCESS, SettledBy.POLL, now=later).result is Result.SETTLED


def test_a_lease_that_is_lost_is_not_extended(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
    other = kit.claim(ledger, lease.job.id, Step.POLL, now=lease.ends_at)

    assert not ledger.extend(lease, now=lease.ends_at, lease_ms=3 * LEASE)
    assert kit.due_at(redis, lease.job.id) == other.ends_at

    ledger.settle(other, SUCCESS, SettledBy.POLL, now=other.ends_at)
    assert not ledger.extend(other, now=other.ends_at, lease_ms=LEASE)
    assert kit.due_at(redis, lease.job.id) is None


def test_a_lease_on_a_submission_is_left_as_it_is(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)
    before = kit.state(redis)

    ledger.extend(lease, now=NOW, lease_ms=3 * LEASE)

    assert kit.state(redis) == before
