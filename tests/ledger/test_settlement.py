"""One outcome per job: callbacks and workers may settle it, once, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, Cost, Outcome, SettledBy, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import COST, FAILURE, LEASE, LOOK, NOW, RETENTION, SUCCESS

CANCELLED = Outcome(Status.CANCELLED, error=FAILURE.error)
RESERVED = Cost(9.9, "credits")


def callback(ledger: Ledger, job_id: str, outcome: Outcome = SUCCESS, attempt: int = 1) -> Result:
    return ledger.settle_attempt(job_id, attempt, f"task-{attempt}", outcome, now=NOW + 5).result


def observe(ledger: Ledger, job_id: str, look: int | None, attempt: int = 1) -> Result:
    return ledger.observe(
        job_id, attempt, f"task-{attempt}", now=NOW + 5, due_at=look, fallback=LOOK + 1
    )


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
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("key", [keys.job, keys.events])
def test_a_settled_job_from_which_nothing_follows_is_kept_for_the_retention_time(
    ledger: Ledger, redis: Redis, key: Any
) -> None:
    job_id = kit.running(ledger)
    callback(ledger, job_id, FAILURE)

    assert RETENTION - 60_000 < (kit.lifetime(redis, key(job_id)) or 0) <= RETENTION


def test_a_poll_settles_the_job_it_holds(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)

    assert ledger.settle(lease, SUCCESS, SettledBy.POLL, now=LOOK).result is Result.SETTLED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.images, job.cost) == (Status.SUCCEEDED, SUCCESS.images, COST)
    assert (job.settled_at, job.settled_by) == (LOOK, SettledBy.POLL)
    kit.invariant(redis, job.id)


def test_a_refusal_settles_the_submission_it_answers(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)

    assert ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.SETTLED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.error, job.settled_by) == (
        Status.FAILED,
        FAILURE.error,
        SettledBy.SUBMIT,
    )
    kit.invariant(redis, job.id)


def test_twenty_identical_callbacks_settle_once(crowd: Ledger, real_redis: Redis) -> None:
    job_id = kit.running(crowd)
    listener = real_redis.pubsub()  # type: ignore[no-untyped-call]
    with listener:
        listener.subscribe(keys.settled(job_id))
        listener.get_message(timeout=2)

        results = kit.together(20, lambda: callback(crowd, job_id))

        heard = [listener.get_message(timeout=2), listener.get_message(timeout=0.05)]
    assert kit.counted(results) == {Result.SETTLED: 1, Result.DUPLICATE: 19}
    assert kit.counted(kit.names(crowd, job_id)[3:]) == {"settled": 1, "duplicate": 19}
    assert [message and message["data"] for message in heard] == [Status.SUCCEEDED, None]


def test_of_a_success_and_a_failure_at_once_one_settles_and_one_conflicts(crowd: Ledger) -> None:
    job_id = kit.running(crowd)
    outcomes = [SUCCESS, FAILURE]

    results = kit.together(2, lambda: callback(crowd, job_id, outcomes.pop()))

    assert sorted(results) == [Result.CONFLICT, Result.SETTLED]


def test_another_outcome_after_the_first_is_recorded_and_changes_nothing(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    callback(ledger, job_id, SUCCESS)
    before = kit.everything(redis)

    assert callback(ledger, job_id, FAILURE) is Result.CONFLICT

    assert kit.everything(redis) == before
    last = ledger.events(job_id)[-1]
    assert last.name == "conflict"
    assert last.detail == {
        "status": "failed",
        "by": "callback",
        "attempt": 1,
        "code": "content_policy",
    }


def test_a_callback_may_overtake_the_answer_to_its_submission(ledger: Ledger, redis: Redis) -> None:
    lease = kit.submitting(ledger)

    assert callback(ledger, lease.job.id) is Result.SETTLED
    before = kit.fields(redis, lease.job.id)
    late = ledger.accepted(lease.job.id, 1, "task-1", now=NOW + 9, due_at=LOOK)

    assert late is Result.SETTLED
    assert kit.job(ledger, lease.job.id).attempts == (Attempt(1, NOW, "task-1"),)
    assert kit.fields(redis, lease.job.id) == {**before, "updated": str(NOW + 9)}
    assert kit.names(ledger, lease.job.id) == ["created", "submitting", "settled", "accepted"]
    kit.invariant(redis, lease.job.id)


@pytest.mark.parametrize("record", [kit.requeue, kit.unconfirmed])
def test_a_submission_that_a_callback_overtook_is_stale(
    ledger: Ledger, redis: Redis, record: Any
) -> None:
    lease = kit.submitting(ledger)
    callback(ledger, lease.job.id)
    before = kit.everything(redis)

    assert record(ledger, lease) is Result.STALE
    assert kit.everything(redis) == before


# Cost --------------------------------------------------------------------------------------


def test_the_cost_that_an_acceptance_tells_is_kept(ledger: Ledger) -> None:
    assert kit.job(ledger, kit.running(ledger, cost=RESERVED)).cost == RESERVED


def test_the_cost_of_the_outcome_replaces_what_was_reserved(ledger: Ledger) -> None:
    job_id = kit.running(ledger, cost=RESERVED)
    callback(ledger, job_id, SUCCESS)

    assert kit.job(ledger, job_id).cost == COST


def test_an_outcome_without_a_cost_leaves_what_was_reserved(ledger: Ledger) -> None:
    job_id = kit.running(ledger, cost=RESERVED)
    callback(ledger, job_id, replace(SUCCESS, cost=None))

    assert kit.job(ledger, job_id).cost == RESERVED


def test_an_acceptance_that_comes_late_does_not_replace_the_cost_of_the_outcome(
    ledger: Ledger,
) -> None:
    job_id = kit.submitting(ledger).job.id
    callback(ledger, job_id, SUCCESS)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK, cost=RESERVED)

    assert kit.job(ledger, job_id).cost == COST


def test_an_acceptance_that_comes_late_tells_a_cost_that_the_outcome_did_not(
    ledger: Ledger,
) -> None:
    job_id = kit.submitting(ledger).job.id
    callback(ledger, job_id, replace(SUCCESS, cost=None))
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK, cost=RESERVED)

    assert kit.job(ledger, job_id).cost == RESERVED


def test_an_older_attempts_cost_does_not_replace_the_current_ones(ledger: Ledger) -> None:
    job_id = kit.resubmitting(ledger).job.id
    ledger.accepted(job_id, 2, "task-2", now=NOW, due_at=LOOK, cost=COST)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK, cost=RESERVED)

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
    assert callback(ledger, job.id, SUCCESS, attempt=2) is Result.CONFLICT, "paid for twice: listed"
    kit.invariant(redis, job.id)


@pytest.mark.parametrize("outcome", [FAILURE, CANCELLED], ids=lambda o: o.status)
def test_a_late_failure_of_an_older_attempt_leaves_the_newer_one_alone(
    ledger: Ledger, redis: Redis, outcome: Outcome
) -> None:
    lease = kit.resubmitting(ledger)

    assert callback(ledger, lease.job.id, outcome, attempt=1) is Result.SUPERSEDED

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.error) == (Status.SUBMITTING, None)
    assert job.attempts == (Attempt(1, NOW, "task-1"), Attempt(2, NOW))
    assert kit.due_at(redis, job.id) == lease.ends_at
    assert kit.names(ledger, job.id)[-1] == "superseded"
    assert ledger.accepted(job.id, 2, "task-2", now=NOW, due_at=LOOK) is Result.RUNNING
    assert callback(ledger, job.id, SUCCESS, attempt=2) is Result.SETTLED


def test_a_callback_for_an_attempt_that_was_never_sent_is_a_mismatch(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    before = kit.everything(redis)

    assert callback(ledger, job_id, SUCCESS, attempt=2) is Result.MISMATCH
    assert kit.everything(redis) == before


# Provider tasks ----------------------------------------------------------------------------


def test_another_tasks_outcome_is_a_mismatch_that_is_recorded_and_changes_nothing(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.running(ledger)
    before = kit.everything(redis)

    result = ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW).result

    assert result is Result.MISMATCH
    assert kit.everything(redis) == before
    assert kit.names(ledger, job_id)[-1] == "mismatch"


def test_another_tasks_acceptance_and_news_are_mismatches_too(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    before = kit.everything(redis)

    taken = ledger.accepted(job_id, 1, "task-x", now=NOW, due_at=NOW, cost=RESERVED)
    seen = ledger.observe(job_id, 1, "task-x", now=NOW, due_at=NOW, fallback=NOW)

    assert (taken, seen) == (Result.MISMATCH, Result.MISMATCH)
    assert kit.everything(redis) == before
    assert kit.names(ledger, job_id)[-2:] == ["mismatch", "mismatch"]


def test_each_attempt_has_a_task_of_its_own(ledger: Ledger) -> None:
    lease = kit.resubmitting(ledger)
    job_id = lease.job.id
    ledger.accepted(job_id, 2, "task-2", now=NOW, due_at=LOOK)

    assert ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK) is Result.SUPERSEDED
    assert [a.task_id for a in kit.job(ledger, job_id).attempts] == ["task-1", "task-2"]


# Callbacks that do not settle --------------------------------------------------------------


def test_a_callback_to_be_confirmed_makes_the_poll_in_flight_stale(
    ledger: Ledger, redis: Redis
) -> None:
    poll = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)
    job_id = poll.job.id

    assert observe(ledger, job_id, NOW + 5) is Result.RUNNING

    assert "lease" not in kit.fields(redis, job_id)
    assert kit.due_at(redis, job_id) == NOW + 5
    assert kit.defer(ledger, poll) is Result.STALE, "its answer is older than the callback"
    assert ledger.settle(poll, FAILURE, SettledBy.DEADLINE, now=NOW).result is Result.STALE
    assert ledger.due(0, now=NOW + 5, limit=1) == [(job_id, Step.POLL)]
    assert kit.names(ledger, job_id)[-1] == "callback"


def test_news_of_a_running_task_leaves_lease_and_next_look(ledger: Ledger, redis: Redis) -> None:
    poll = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)

    assert observe(ledger, poll.job.id, None) is Result.RUNNING

    assert kit.due_at(redis, poll.job.id) == poll.ends_at
    assert kit.fields(redis, poll.job.id)["updated"] == str(NOW + 5)
    assert kit.defer(ledger, poll) is Result.DEFERRED


@pytest.mark.parametrize(("look", "planned"), [(None, LOOK + 1), (NOW + 2, NOW + 2)])
def test_news_of_a_task_that_was_not_known_to_run_makes_the_job_running(
    ledger: Ledger, redis: Redis, look: int | None, planned: int
) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)

    assert observe(ledger, lease.job.id, look) is Result.RUNNING

    job = kit.job(ledger, lease.job.id)
    assert (job.status, job.tries) == (Status.RUNNING, 0)
    assert job.attempts == (Attempt(1, NOW, "task-1"),)
    assert kit.due_at(redis, job.id) == planned
    assert ledger.accepted(job.id, 1, "task-1", now=NOW, due_at=LOOK) is Result.RUNNING
    assert kit.due_at(redis, job.id) == planned, "the answer that was overtaken changes nothing"


# Calling off -------------------------------------------------------------------------------


def test_a_queued_job_can_be_called_off(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    assert ledger.cancel(job_id, now=NOW + 3).result is Result.CANCELLED

    job = kit.job(ledger, job_id)
    assert (job.status, job.settled_by) == (Status.CANCELLED, SettledBy.CANCEL)
    assert job.settled_at == NOW + 3
    assert job.error is not None
    assert job.error.code == "cancelled"
    assert ledger.claim(job_id, Step.SUBMIT, now=LOOK, lease_ms=LEASE) is None
    last = ledger.events(job_id)[-1]
    assert (last.name, last.detail) == ("settled", {"status": "cancelled", "by": "cancel"})
    kit.invariant(redis, job_id)


def test_a_job_that_was_sent_is_paid_for_and_goes_on(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    before = kit.everything(redis)

    assert ledger.cancel(job_id, now=NOW).result is Result.IN_FLIGHT
    assert kit.everything(redis) == before
