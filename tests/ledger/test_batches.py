"""Batches: their counts, their completion and their notification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, Status, Step
from orchestrator.jobs.request import Receiver
from orchestrator.ledger import Idempotency, Ledger, Result, identifiers, keys
from orchestrator.ledger.batches import BatchLease
from tests.ledger import kit
from tests.ledger.kit import DAY, FAILURE, LEASE, NEXT_DUE, NOW, RETENTION, SUCCESS, TTL_MARGIN
from tests.ledger.recording import RecordingClient


def complete(ledger: Ledger, batch_id: str, *, now: int = NOW) -> Result:
    batch = kit.batch(ledger, batch_id)
    return ledger.batches.complete(batch, now=now, next_check=now + 15_000)


def settle(ledger: Ledger, job_id: str) -> str | None:
    """Give a job its outcome. Return the batch that must be checked."""
    task = f"task-of-{job_id}"
    kit.claim(ledger, job_id)
    return ledger.settle_attempt(job_id, 1, task, SUCCESS, now=NOW).batch


def due(ledger: Ledger, batch_id: str, now: int) -> bool:
    shard = identifiers.shard_of(batch_id)
    return batch_id in ledger.follow_ups.due(shard, Step.BATCH, now=now, limit=10)


# Counts ---------------------------------------------------------------------------------------


def test_a_batch_counts_its_jobs_by_status(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    jobs = [kit.create_in_batch(ledger, batch_id).job_id for _ in range(5)]
    kit.create(ledger)
    kit.claim(ledger, jobs[0])
    kit.unconfirmed(ledger, kit.claim(ledger, jobs[1]))
    kit.claim(ledger, jobs[2])
    ledger.accepted(jobs[2], 1, "task-2", now=NOW, due_at=NEXT_DUE)
    ledger.cancel(jobs[3], now=NOW)

    counts = {Status.SUBMITTING: 1, Status.UNCONFIRMED: 1, Status.RUNNING: 1}
    assert kit.batch(ledger, batch_id).counts == {
        **counts,
        Status.CANCELLED: 1,
        Status.QUEUED: 1,
    }
    assert kit.batch(ledger, batch_id).total == 5
    assert kit.job(ledger, jobs[0]).batch == batch_id


def test_a_job_of_another_call_does_not_join_the_batch(ledger: Ledger) -> None:
    first, second = kit.open_batch(ledger), kit.open_batch(ledger)
    made = kit.create_in_batch(ledger, first, key="order-1")

    again = kit.create_in_batch(ledger, second, key="order-1")

    assert (again.result, again.job_id) == (Result.REPLAYED, made.job_id)
    assert (kit.batch(ledger, first).total, kit.batch(ledger, second).total) == (1, 0)


def test_the_counts_of_all_shards_are_added_up(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=3)
    batch_id = kit.open_batch(ledger)
    jobs = [kit.create_in_batch(ledger, batch_id, key=str(n)).job_id for n in range(12)]
    assert {identifiers.shard_of(job_id) for job_id in jobs} == {0, 1, 2}
    ledger.batches.seal(batch_id, "", now=NOW)

    ended = [settle(ledger, job_id) for job_id in jobs]

    assert sum(each == batch_id for each in ended) == 3, "the last job of each shard says so"
    assert complete(ledger, batch_id) is Result.RECORDED
    assert kit.batch(ledger, batch_id).counts == {Status.SUCCEEDED: 12}
    others = [keys.batch(shard, batch_id) for shard in {0, 1, 2} - {identifiers.shard_of(batch_id)}]
    assert all(kit.ttl(redis, key) is not None for key in others)


# Idempotency ----------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_batch(ledger: Ledger, redis: Redis) -> None:
    batch_id = kit.open_batch(ledger, "order-1")

    assert kit.open_batch(ledger, "order-1") == batch_id
    assert kit.open_batch(ledger, "order-2") != batch_id
    redis.delete(keys.batch(0, batch_id))
    key = Idempotency("caller:batch", "order-1")
    gone = ledger.batches.open("default", Receiver(), now=NOW, idempotency=key, fingerprint="f")
    assert (gone.result, gone.job_id) == (Result.GONE, batch_id)


def test_the_first_answer_stands(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger, "order-1")
    assert ledger.batches.answer(batch_id) is None

    assert ledger.batches.seal(batch_id, "[1]", now=NOW) is Result.RECORDED
    assert ledger.batches.seal(batch_id, "[2]", now=NOW) is Result.DUPLICATE

    assert ledger.batches.answer(batch_id) == "[1]"


# Completion -----------------------------------------------------------------------------------


def test_a_batch_is_completed_when_it_is_sealed_and_every_job_has_its_outcome(
    ledger: Ledger,
) -> None:
    batch_id = kit.open_batch(ledger)
    first, second = (kit.create_in_batch(ledger, batch_id).job_id for _ in range(2))

    assert settle(ledger, first) is None
    assert settle(ledger, second) == batch_id
    assert complete(ledger, batch_id) is Result.OPEN, "it is not sealed"
    ledger.batches.seal(batch_id, "", now=NOW)
    assert complete(ledger, batch_id) is Result.RECORDED

    batch = kit.batch(ledger, batch_id)
    assert (batch.completed_at, batch.counts) == (NOW, {Status.SUCCEEDED: 2})
    assert batch.notification
    assert batch.notification.status is FollowUpStatus.PENDING
    assert complete(ledger, batch_id) is Result.DUPLICATE


def test_what_was_read_before_the_seal_does_not_complete_a_batch(ledger: Ledger) -> None:
    """Jobs may have joined between the read and the seal."""
    batch_id = kit.open_batch(ledger)
    before = kit.batch(ledger, batch_id)
    kit.create_in_batch(ledger, batch_id)
    ledger.batches.seal(batch_id, "", now=NOW)

    assert ledger.batches.complete(before, now=NOW, next_check=NEXT_DUE) is Result.OPEN

    assert kit.batch(ledger, batch_id).completed_at is None


def test_an_open_batch_is_due_again_later(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    assert not due(ledger, batch_id, NOW + DAY - 1)
    kit.create_in_batch(ledger, batch_id)
    ledger.batches.seal(batch_id, "", now=NOW)
    assert due(ledger, batch_id, NOW)

    assert complete(ledger, batch_id) is Result.OPEN

    assert not due(ledger, batch_id, NOW + 14_999)
    assert due(ledger, batch_id, NOW + 15_000)


def test_an_abandoned_batch_is_completed_when_its_key_has_expired(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    settle(ledger, kit.create_in_batch(ledger, batch_id).job_id)

    assert complete(ledger, batch_id, now=NOW + DAY - 1) is Result.OPEN
    assert due(ledger, batch_id, NOW + DAY)
    assert complete(ledger, batch_id, now=NOW + DAY) is Result.RECORDED


def test_a_batch_without_a_receiver_is_kept_for_the_retention_time(
    ledger: Ledger, redis: Redis
) -> None:
    batch_id = kit.open_batch(ledger, receiver=Receiver())
    ledger.batches.seal(batch_id, "", now=NOW)
    assert kit.ttl(redis, keys.batch(0, batch_id)) is None

    complete(ledger, batch_id)

    assert RETENTION - TTL_MARGIN < (kit.ttl(redis, keys.batch(0, batch_id)) or 0) <= RETENTION
    assert not due(ledger, batch_id, NOW + RETENTION)
    assert kit.batch(ledger, batch_id).notification is None


def test_a_late_result_does_not_change_a_batch(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    job_id = kit.create_in_batch(ledger, batch_id).job_id
    kit.claim(ledger, job_id)
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)

    late = ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    assert (late.result, late.batch) == (Result.LATE, None)
    assert kit.batch(ledger, batch_id).counts == {Status.FAILED: 1}


# The notification -----------------------------------------------------------------------------


def test_one_worker_gets_the_notification(shared_ledger: Ledger) -> None:
    batch_id = kit.completed_batch(shared_ledger)

    leases = kit.in_parallel(
        8, lambda: shared_ledger.batches.claim(batch_id, now=NOW, lease_ms=LEASE)
    )

    [lease] = [lease for lease in leases if lease]
    assert lease.batch.receiver == kit.RECEIVER
    assert lease.batch.counts == {Status.CANCELLED: 1}
    assert shared_ledger.batches.claim(batch_id, now=NOW + LEASE, lease_ms=LEASE)


def test_an_open_batch_has_no_notification_to_send(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    kit.create_in_batch(ledger, batch_id)
    ledger.batches.seal(batch_id, "", now=NOW)

    assert ledger.batches.claim(batch_id, now=NOW, lease_ms=LEASE) is None


def test_a_failed_try_is_repeated_until_it_ends(ledger: Ledger, redis: Redis) -> None:
    batch_id = kit.completed_batch(ledger)
    first = kit.claim_batch(ledger, batch_id)
    ledger.batches.later(first, now=NOW, due_at=NEXT_DUE, tries=1, error="503")
    assert ledger.batches.claim(batch_id, now=NEXT_DUE - 1, lease_ms=LEASE) is None
    second = kit.claim_batch(ledger, batch_id, now=NEXT_DUE)
    assert second.batch.notification
    assert (second.batch.notification.tries, second.batch.notification.error) == (1, "503")
    assert ledger.batches.done(first, FollowUpStatus.DONE, now=NOW, tries=2) is Result.STALE
    assert kit.ttl(redis, keys.batch(0, batch_id)) is None

    ledger.batches.done(second, FollowUpStatus.DONE, now=NEXT_DUE, tries=2)

    notification = kit.batch(ledger, batch_id).notification
    assert notification
    assert (notification.status, notification.error) == (FollowUpStatus.DONE, None)
    assert kit.ttl(redis, keys.batch(0, batch_id)) is not None
    assert not due(ledger, batch_id, NOW + RETENTION)


def dead(ledger: Ledger) -> str:
    """Return a batch whose notification was given up."""
    lease = kit.claim_batch(ledger, kit.completed_batch(ledger))
    ledger.batches.done(lease, FollowUpStatus.DEAD, now=NOW, tries=9, error="503")
    return lease.batch.id


def test_a_dead_notification_is_sent_again_from_the_first_try(ledger: Ledger, redis: Redis) -> None:
    batch_id = dead(ledger)

    assert ledger.batches.notify_again(batch_id, now=NEXT_DUE) is Result.RECORDED

    notification = kit.batch(ledger, batch_id).notification
    assert notification
    assert (notification.status, notification.tries) == (FollowUpStatus.PENDING, 0)
    assert (notification.since, notification.due_at) == (NEXT_DUE, NEXT_DUE)
    assert kit.ttl(redis, keys.batch(0, batch_id)) is None
    assert due(ledger, batch_id, NEXT_DUE)
    assert not due(ledger, batch_id, NEXT_DUE - 1)


def test_a_notification_that_is_being_sent_is_not_sent_twice(ledger: Ledger) -> None:
    lease = kit.claim_batch(ledger, kit.completed_batch(ledger))

    assert ledger.batches.notify_again(lease.batch.id, now=NOW) is Result.RECORDED
    assert ledger.batches.claim(lease.batch.id, now=NOW, lease_ms=LEASE) is None

    ledger.batches.notify_again(lease.batch.id, now=NOW + LEASE)
    late = ledger.batches.done(lease, FollowUpStatus.DONE, now=NOW + LEASE, tries=1)
    assert late is Result.STALE, "its worker is dead"


def test_only_a_completed_batch_with_a_receiver_is_notified_again(ledger: Ledger) -> None:
    batch_id = kit.open_batch(ledger)
    silent = kit.open_batch(ledger, receiver=Receiver())
    ledger.batches.seal(silent, "", now=NOW)
    complete(ledger, silent)

    assert ledger.batches.notify_again(batch_id, now=NOW) is Result.OPEN
    assert ledger.batches.notify_again(silent, now=NOW) is Result.SILENT
    assert ledger.batches.notify_again(identifiers.new_batch_id(0, NOW), now=NOW) is Result.MISSING


# Repeated calls -------------------------------------------------------------------------------


def opened(ledger: Ledger) -> None:
    kit.open_batch(ledger, "order-1")


def sealed(ledger: Ledger) -> None:
    ledger.batches.seal(kit.open_batch(ledger), "[]", now=NOW)


def claimed(ledger: Ledger) -> BatchLease:
    return kit.claim_batch(ledger, kit.completed_batch(ledger))


def tried(ledger: Ledger) -> None:
    ledger.batches.later(claimed(ledger), now=NOW, due_at=NEXT_DUE, tries=1, error="503")


def notified_again(ledger: Ledger) -> None:
    ledger.batches.notify_again(dead(ledger), now=NEXT_DUE)


#: A call that ends with each script, and the answer of its second run.
REPEATS: Mapping[str, tuple[Callable[[Ledger], object], str]] = {
    "open_batch": (opened, "created"),
    "seal_batch": (sealed, "duplicate"),
    "complete_batch": (kit.completed_batch, "duplicate"),
    "claim_batch": (claimed, "claimed"),
    "notify_batch": (tried, "stale"),
    "notify_batch_again": (notified_again, "recorded"),
}


@pytest.mark.parametrize("script", REPEATS)
def test_the_second_run_of_a_script_changes_nothing(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis, script: str
) -> None:
    run, second = REPEATS[script]
    run(recorded_ledger)
    state = kit.state(redis)

    assert recorder.repeat()[0] == second
    assert kit.state(redis) == state


def test_an_unknown_batch_is_missing(ledger: Ledger) -> None:
    batch = replace(kit.empty_batch(identifiers.new_batch_id(0, NOW)))
    lease = BatchLease(batch, "token")

    assert ledger.batches.get(batch.id) is None
    assert ledger.batches.get("batch_x") is None
    assert ledger.batches.seal(batch.id, "", now=NOW) is Result.MISSING
    assert ledger.batches.complete(batch, now=NOW, next_check=NOW) is Result.MISSING
    assert ledger.batches.claim(batch.id, now=NOW, lease_ms=1) is None
    assert ledger.batches.done(lease, FollowUpStatus.DONE, now=NOW, tries=1) is Result.MISSING
