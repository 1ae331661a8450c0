"""One outcome per job: callbacks and workers settle it once, in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, Cost, Outcome, SettledBy, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import COST, FAILURE, LEASE, NEXT_DUE, NOW, RETENTION, SUCCESS, TTL_MARGIN

CANCELLED = Outcome(Status.CANCELLED, error=FAILURE.error)
RESERVED = Cost(9.9, "credits")


def callback(ledger: Ledger, job_id: str, outcome: Outcome = SUCCESS, attempt: int = 1) -> Result:
    return ledger.settle_attempt(job_id, attempt, f"task-{attempt}", outcome, now=NOW + 5).result


def observe(ledger: Ledger, job_id: str, due_at: int | None) -> Result:
    return ledger.observe(
        job_id, 1, "task-1", now=NOW + 5, due_at=due_at, fallback=NEXT_DUE + 1
    ).result


@pytest.mark.parametrize("outcome", [SUCCESS, FAILURE, CANCELLED], ids=lambda o: o.status)
def test_a_callback_settles_a_running_job(ledger: Ledger, redis: Redis, outcome: Outcome) -> None:
    job_id = kit.running(ledger)

    assert callback(ledger, job_id, outcome) is Result.SETTLED

    job = kit.job(ledger, job_id)
    assert (job.status, job.images, job.error) == (outcome.status, outcome.images, outcome.error)
    assert job.cost == outcome.cost
    assert (job.settled_at, job.settled_by) == (NOW + 5, SettledBy.CALLBACK)
    assert job.updated_at == NOW + 5
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name) == (NOW + 5, "settled")
    code = {"code": outcome.error.code} if outcome.error else {}
    assert last.detail == {"status": outcome.status, "by": "callback", "attempt": 1, **code}
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("key", [keys.job, keys.events])
def test_a_settled_job_without_follow_ups_is_kept_for_the_retention_time(
    ledger: Ledger, redis: Redis, key: Any
) -> None:
    job_id = kit.running(ledger)
    callback(ledger, job_id, FAILURE)

    assert RETENTION - TTL_MARGIN < (kit.ttl(redis, key(job_id)) or 0) <= RETENTION


def test_a_poll_settles_its_job(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    assert ledger.settle(lease, SUCCESS, SettledBy.POLL, now=NEXT_DUE).result is Result.SETTLED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.images, job.cost) == (Status.SUCCEEDED, SUCCESS.images, COST)
    assert (job.settled_at, job.settled_by) == (NEXT_DUE, SettledBy.POLL)
    kit.check_job(redis, job.id)


def test_a_refused_submission_settles_its_job(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)

    assert ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.SETTLED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.error, job.settled_by) == (
        Status.FAILED,
        FAILURE.error,
        SettledBy.SUBMIT,
    )
    kit.check_job(redis, job.id)


def test_twenty_identical_callbacks_settle_once(shared_ledger: Ledger, real_redis: Redis) -> None:
    job_id = kit.running(shared_ledger)
    listener = real_redis.pubsub()
    with listener:
        listener.subscribe(keys.settled(job_id))
        results = kit.in_parallel(20, lambda: callback(shared_ledger, job_id))
        messages = kit.received(real_redis, listener, keys.settled(job_id))
    assert Counter(results) == {Result.SETTLED: 1, Result.DUPLICATE: 19}
    assert Counter(kit.event_names(shared_ledger, job_id)[3:]) == {"settled": 1, "duplicate": 19}
    assert [message["data"] for message in messages] == [Status.SUCCEEDED]


def test_of_a_concurrent_success_and_failure_one_settles_and_the_images_are_kept(
    shared_ledger: Ledger,
) -> None:
    job_id = kit.running(shared_ledger)
    outcomes = [SUCCESS, FAILURE]

    results = kit.in_parallel(2, lambda: callback(shared_ledger, job_id, outcomes.pop()))

    assert sorted(results) in ([Result.CONFLICT, Result.SETTLED], [Result.LATE, Result.SETTLED])
    assert kit.job(shared_ledger, job_id).all_images == SUCCESS.images


def test_a_second_outcome_is_recorded_and_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    callback(ledger, job_id, SUCCESS)
    before = kit.state(redis)

    assert callback(ledger, job_id, FAILURE) is Result.CONFLICT

    assert kit.state(redis) == before
    last = ledger.events(job_id)[-1]
    assert last.name == "conflict"
    assert last.detail == {
        "status": "failed",
        "by": "callback",
        "attempt": 1,
        "code": "content_policy",
    }


def test_a_callback_may_arrive_before_the_answer_to_the_submission(
    ledger: Ledger, redis: Redis
) -> None:
    lease = kit.submitting(ledger)

    assert callback(ledger, lease.job.id) is Result.SETTLED
    before = kit.fields(redis, lease.job.id)
    late = ledger.accepted(lease.job.id, 1, "task-1", now=NOW + 9, due_at=NEXT_DUE)

    assert late is Result.SETTLED
    assert kit.job(ledger, lease.job.id).attempts == (Attempt(1, NOW, "task-1"),)
    assert kit.fields(redis, lease.job.id) == {**before, "updated": str(NOW + 9)}
    assert kit.event_names(ledger, lease.job.id) == ["created", "submitting", "settled", "accepted"]
    kit.check_job(redis, lease.job.id)


@pytest.mark.parametrize("record", [kit.requeue, kit.unconfirmed])
def test_a_result_of_a_submission_after_the_callback_is_stale(
    ledger: Ledger, redis: Redis, record: Any
) -> None:
    lease = kit.submitting(ledger)
    callback(ledger, lease.job.id)
    before = kit.state(redis)

    assert record(ledger, lease) is Result.STALE
    assert kit.state(redis) == before


# Cost --------------------------------------------------------------------------------------


def test_the_cost_of_an_acceptance_is_stored(ledger: Ledger) -> None:
    assert kit.job(ledger, kit.running(ledger, cost=RESERVED)).cost == RESERVED


def test_the_cost_of_the_outcome_replaces_the_cost_of_the_acceptance(ledger: Ledger) -> None:
    job_id = kit.running(ledger, cost=RESERVED)
    callback(ledger, job_id, SUCCESS)

    assert kit.job(ledger, job_id).cost == COST


def test_an_outcome_without_a_cost_keeps_the_cost_of_the_acceptance(ledger: Ledger) -> None:
    job_id = kit.running(ledger, cost=RESERVED)
    callback(ledger, job_id, replace(SUCCESS, cost=None))

    assert kit.job(ledger, job_id).cost == RESERVED


def test_a_late_acceptance_does_not_replace_the_cost_of_the_outcome(
    ledger: Ledger,
) -> None:
    job_id = kit.submitting(ledger).job.id
    callback(ledger, job_id, SUCCESS)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE, cost=RESERVED)

    assert kit.job(ledger, job_id).cost == COST


def test_a_late_acceptance_adds_a_cost_that_the_outcome_did_not_have(
    ledger: Ledger,
) -> None:
    job_id = kit.submitting(ledger).job.id
    callback(ledger, job_id, replace(SUCCESS, cost=None))
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE, cost=RESERVED)

    assert kit.job(ledger, job_id).cost == RESERVED


def test_the_cost_of_an_older_attempt_does_not_replace_the_current_cost(ledger: Ledger) -> None:
    job_id = kit.resubmitting(ledger).job.id
    ledger.accepted(job_id, 2, "task-2", now=NOW, due_at=NEXT_DUE, cost=COST)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE, cost=RESERVED)

    assert kit.job(ledger, job_id).cost == COST


# Attempts ----------------------------------------------------------------------------------


def test_a_late_success_of_an_older_attempt_settles_the_job(ledger: Ledger, redis: Redis) -> None:
    lease = kit.resubmitting(ledger)

    assert callback(ledger, lease.job.id, SUCCESS, attempt=1) is Result.SETTLED

    job = kit.job(ledger, lease.job.id)
    assert job.status is Status.SUCCEEDED
    assert job.attempts == (Attempt(1, NOW, "task-1"), Attempt(2, NOW))
    assert kit.fields(redis, job.id)["winner"] == "1"
    assert callback(ledger, job.id, SUCCESS, attempt=1) is Result.DUPLICATE
    assert callback(ledger, job.id, SUCCESS, attempt=2) is Result.LATE, "it is paid, too"
    assert kit.job(ledger, job.id).late_images == SUCCESS.images
    kit.check_job(redis, job.id)


@pytest.mark.parametrize("outcome", [FAILURE, CANCELLED], ids=lambda o: o.status)
def test_a_late_failure_of_an_older_attempt_does_not_change_the_newer_attempt(
    ledger: Ledger, redis: Redis, outcome: Outcome
) -> None:
    lease = kit.resubmitting(ledger)

    assert callback(ledger, lease.job.id, outcome, attempt=1) is Result.SUPERSEDED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.error) == (Status.SUBMITTING, None)
    assert job.attempts == (Attempt(1, NOW, "task-1"), Attempt(2, NOW))
    assert kit.due_at(redis, job.id) == lease.ends_at
    assert kit.event_names(ledger, job.id)[-1] == "superseded"
    assert ledger.accepted(job.id, 2, "task-2", now=NOW, due_at=NEXT_DUE) is Result.RUNNING
    assert callback(ledger, job.id, SUCCESS, attempt=2) is Result.SETTLED


def test_a_callback_for_an_attempt_that_was_never_sent_is_a_mismatch(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    before = kit.state(redis)

    assert callback(ledger, job_id, SUCCESS, attempt=2) is Result.MISMATCH
    assert kit.state(redis) == before


# Provider tasks ----------------------------------------------------------------------------


def test_an_outcome_of_another_task_is_recorded_and_changes_nothing(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    before = kit.state(redis)

    result = ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW).result

    assert result is Result.MISMATCH
    assert kit.state(redis) == before
    assert kit.event_names(ledger, job_id)[-1] == "mismatch"


def test_an_acceptance_or_callback_of_another_task_is_a_mismatch(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    before = kit.state(redis)

    accepted = ledger.accepted(job_id, 1, "task-x", now=NOW, due_at=NOW, cost=RESERVED)
    observed = ledger.observe(job_id, 1, "task-x", now=NOW, due_at=NOW, fallback=NOW).result

    assert (accepted, observed) == (Result.MISMATCH, Result.MISMATCH)
    assert kit.state(redis) == before
    assert kit.event_names(ledger, job_id)[-2:] == ["mismatch", "mismatch"]


def test_each_attempt_has_its_own_task(ledger: Ledger) -> None:
    lease = kit.resubmitting(ledger)
    job_id = lease.job.id
    ledger.accepted(job_id, 2, "task-2", now=NOW, due_at=NEXT_DUE)

    assert ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.SUPERSEDED
    assert [a.task_id for a in kit.job(ledger, job_id).attempts] == ["task-1", "task-2"]


# Callbacks that do not settle --------------------------------------------------------------


def test_a_callback_that_must_be_confirmed_makes_the_current_poll_stale(
    ledger: Ledger, redis: Redis
) -> None:
    poll = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
    job_id = poll.job.id

    assert observe(ledger, job_id, NOW + 5) is Result.RUNNING

    assert "lease" not in kit.fields(redis, job_id)
    assert kit.due_at(redis, job_id) == NOW + 5
    assert kit.defer(ledger, poll) is Result.STALE, (
        "the answer of the poll is older than the callback"
    )
    assert ledger.settle(poll, FAILURE, SettledBy.DEADLINE, now=NOW).result is Result.STALE
    assert ledger.agenda.due(0, now=NOW + 5, limit=1) == [(job_id, Step.POLL)]
    assert kit.event_names(ledger, job_id)[-1] == "callback"


def test_a_callback_without_an_outcome_keeps_the_lease_and_the_due_time(
    ledger: Ledger, redis: Redis
) -> None:
    poll = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    assert observe(ledger, poll.job.id, None) is Result.RUNNING

    assert kit.due_at(redis, poll.job.id) == poll.ends_at
    assert kit.fields(redis, poll.job.id)["updated"] == str(NOW + 5)
    assert kit.defer(ledger, poll) is Result.DEFERRED


@pytest.mark.parametrize(("due_at", "planned"), [(None, NEXT_DUE + 1), (NOW + 2, NOW + 2)])
def test_a_callback_without_an_outcome_makes_an_unconfirmed_job_running(
    ledger: Ledger, redis: Redis, due_at: int | None, planned: int
) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)

    assert observe(ledger, lease.job.id, due_at) is Result.RUNNING

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.tries) == (Status.RUNNING, 0)
    assert job.attempts == (Attempt(1, NOW, "task-1"),)
    assert kit.due_at(redis, job.id) == planned
    assert ledger.accepted(job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING
    assert kit.due_at(redis, job.id) == planned, "the late answer changes nothing"


# Cancelling --------------------------------------------------------------------------------


def test_a_queued_job_can_be_cancelled(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    assert ledger.cancel(job_id, now=NOW + 3).result is Result.CANCELLED

    job = kit.job(ledger, job_id)
    assert (job.status, job.settled_by) == (Status.CANCELLED, SettledBy.CANCEL)
    assert job.settled_at == NOW + 3
    assert job.error is not None
    assert job.error.code == "cancelled"
    assert ledger.claim(job_id, Step.SUBMIT, now=NEXT_DUE, lease_ms=LEASE) is None
    last = ledger.events(job_id)[-1]
    assert (last.name, last.detail) == ("settled", {"status": "cancelled", "by": "cancel"})
    kit.check_job(redis, job_id)


def test_a_submitted_job_cannot_be_cancelled(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    before = kit.state(redis)

    assert ledger.cancel(job_id, now=NOW).result is Result.IN_FLIGHT
    assert kit.state(redis) == before
