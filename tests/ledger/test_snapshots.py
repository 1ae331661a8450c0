"""Snapshots of all jobs, and counts of a shard that did not change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from unittest.mock import patch

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Step
from orchestrator.ledger import (
    Idempotency,
    Ledger,
    LedgerUnavailable,
    identifiers,
    keys,
    snapshots,
)
from orchestrator.ledger.script import Script
from orchestrator.ledger.snapshots import Snapshot, TaskOfAttempt
from orchestrator.ledger.totals import Totals
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, NEXT_DUE, NOW, REQUEST
from tests.ledger.test_overview import expire, failed, unconfirmed

# Snapshots ---------------------------------------------------------------------------------


def test_a_snapshot_has_the_job_its_timeline_and_its_due_time(ledger: Ledger) -> None:
    done, job_id = failed(ledger), kit.running(ledger)

    by_id = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    facts = {i: shot.job for i, shot in by_id.items() if shot.job}
    assert by_id == {
        done: Snapshot(done, facts[done], 1, None, {}, listed=True),
        job_id: Snapshot(job_id, facts[job_id], 0, NEXT_DUE, {}, listed=True),
    }


def test_the_facts_of_a_snapshot_are_those_of_its_job(ledger: Ledger, redis: Redis) -> None:
    for step in FOLLOW_UPS:
        kit.confirming(ledger) if step is Step.CONFIRM else kit.settled(ledger)
    kit.late_callback(ledger, kit.finished(ledger, FAILURE))
    kit.finish_follow_up(ledger, kit.settled(ledger), Step.ARCHIVE, FollowUpStatus.DEAD)
    kit.resubmit(ledger, resent := unconfirmed(ledger))
    kit.claim(ledger, resent.job.id)
    kit.create_in_batch(ledger, kit.open_batch(ledger))
    kit.refuse(ledger, kit.claim(ledger, moved := kit.create(ledger, kit.MOVING)))
    kit.claim(ledger, moved)
    ledger.accepted(moved, 2, "task-of-the-second", now=NOW, due_at=NEXT_DUE)
    assert [each.provider for each in kit.job(ledger, moved).attempts] == ["hiapi", "evolink"]
    kit.make_old(redis, old := kit.create(ledger))

    for shot in ledger.overview.snapshots(0):
        job, facts = kit.job(ledger, shot.job_id), shot.job
        assert facts
        same = ("id", "status", "provider", "tenant", "deadline_at", "resubmitted")
        assert {n: getattr(facts, n) for n in same} == {n: getattr(job, n) for n in same}
        assert facts.attempts == tuple(
            TaskOfAttempt(job.provider_of(each.number), each.task_id) for each in job.attempts
        )
        states = [(each.copy is not None, bool(each.error)) for each in job.all_images]
        assert facts.copy_states() == states
        for step in FOLLOW_UPS:
            follow_up = job.follow_up(step)
            assert facts.follow_up(step) == (follow_up.status if follow_up else None)
        assert facts.has_fallback == bool(job.fallback_left)
        assert facts.stored["batch"] == job.batch
        assert facts.has_result == job.status.terminal
        assert facts.old == (job.id == old)
        settled = [event.name for event in ledger.events(job.id)].count("settled")
        assert shot.settled_events == settled


def rename(redis: Redis, job_id: str) -> None:
    redis.zadd(keys.jobs(0), {"job with blanks": 0})


def of_another_type(redis: Redis, job_id: str) -> None:
    redis.delete(keys.job(job_id))
    redis.set(keys.job(job_id), "a text")


def with_a_timeline_of_another_type(redis: Redis, job_id: str) -> None:
    redis.delete(keys.events(job_id))
    redis.set(keys.events(job_id), "a text")


def with_one_foreign_field(redis: Redis, job_id: str) -> None:
    redis.delete(keys.job(job_id))
    redis.hset(keys.job(job_id), "colour", "red")


def with_field(name: str, value: str | bytes) -> Callable[[Redis, str], None]:
    def change(redis: Redis, job_id: str) -> None:
        redis.hset(keys.job(job_id), name, value)

    return change


def without_field(name: str) -> Callable[[Redis, str], None]:
    def change(redis: Redis, job_id: str) -> None:
        assert redis.hdel(keys.job(job_id), name) == 1

    return change


SPOILED = [
    rename,
    of_another_type,
    with_a_timeline_of_another_type,
    with_one_foreign_field,
    *map(without_field, ("status", "request", "attempt", "created", "updated", "deadline")),
    without_field("sent.1"),
    *(with_field(name, b"\xff\xfe") for name in ("request", "status", "task.1")),
    *(with_field(name, "-") for name in ("attempt", "created", "deadline", "resubmitted")),
    *(with_field("attempt", number) for number in ("-1", "2", "1000000000000", "inf", "nan")),
    *(with_field("request", text) for text in ("", "{", "[]", "null", '{"hologram": 1}')),
    *(with_field("images", text) for text in ("{", "[1]", "[null]", "7")),
    *(with_field("error", text) for text in ("{", '{"code": "odd"}', "[1]")),
    *(with_field(name, "resting") for name in ("status", "by", "archive", "notify", "settled")),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_job_that_cannot_be_read_says_so_and_hides_no_other(
    ledger: Ledger, redis: Redis, spoil: Callable[[Redis, str], None]
) -> None:
    before, spoiled, after = (kit.running(ledger) for _ in range(3))

    spoil(redis, spoiled)

    by_id = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}
    faults = {job_id: shot.fault for job_id, shot in by_id.items() if shot.fault}
    [(wrong, fault)] = faults.items()
    assert wrong == ("job with blanks" if spoil is rename else spoiled)
    assert fault.startswith(wrong)
    assert by_id[wrong].job is None
    assert all(by_id[job_id].job for job_id in (before, after))


def test_a_snapshot_does_not_show_the_prompt(ledger: Ledger) -> None:
    kit.running(ledger)

    [shot] = ledger.overview.snapshots(0)

    assert REQUEST.options["prompt"] not in repr(shot)


def test_an_infinite_score_is_no_due_time(ledger: Ledger, redis: Redis) -> None:
    redis.zadd(keys.agenda(0), {kit.running(ledger): "inf"})

    [shot] = ledger.overview.snapshots(0)

    assert shot.due_at is None


def test_an_unavailable_redis_is_no_fault_of_a_job(ledger: Ledger) -> None:
    kit.running(ledger)
    refusal = ResponseError("LOADING Redis is loading the dataset in memory")

    with (
        patch.object(Script, "run", side_effect=refusal),
        pytest.raises(LedgerUnavailable),
    ):
        list(ledger.overview.snapshots(0))


def test_a_snapshot_has_the_due_time_of_each_pending_follow_up(ledger: Ledger) -> None:
    both, archive, ended = kit.settled(ledger), kit.settled(ledger), kit.finished(ledger)
    kit.finish_follow_up(ledger, archive, Step.NOTIFY)
    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, archive, Step.ARCHIVE), Step.ARCHIVE)

    by_id = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    assert {job_id: shot.follow_ups for job_id, shot in by_id.items()} == {
        both: {Step.ARCHIVE: NOW, Step.NOTIFY: NOW},
        archive: {Step.ARCHIVE: NEXT_DUE},
        ended: {},
    }
    assert {shot.due_at for shot in by_id.values()} == {None}
    assert {shot.job.id for shot in by_id.values() if shot.job} == set(by_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_snapshot_has_the_follow_ups_of_an_older_version(
    ledger: Ledger, redis: Redis, step: Step
) -> None:
    job_id = kit.confirming(ledger) if step is Step.CONFIRM else kit.settled(ledger)
    before = list(ledger.overview.snapshots(0))

    kit.make_follow_ups_old(redis, step)

    assert list(ledger.overview.snapshots(0)) == before
    assert [(shot.job_id, step in shot.follow_ups) for shot in before] == [(job_id, True)]


def test_every_job_of_a_shard_has_one_snapshot(
    sharded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGE_JOBS", 4)
    ids = [kit.create(sharded) for _ in range(60)]

    shards = [list(sharded.overview.snapshots(shard)) for shard in range(5)]

    assert all(shot.listed for shots in shards for shot in shots)
    for shard, shots in enumerate(shards):
        expected = sorted(job_id for job_id in ids if identifiers.shard_of(job_id) == shard)
        assert [shot.job_id for shot in shots] == expected


def test_an_unlisted_job_has_a_snapshot_if_it_is_in_the_agenda(
    ledger: Ledger, redis: Redis
) -> None:
    lost, other = kit.create(ledger), kit.create(ledger)
    redis.zrem(keys.jobs(0), lost)

    by_id = {shot.job_id: shot.listed for shot in ledger.overview.snapshots(0)}

    assert by_id == {lost: False, other: True}


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_an_unlisted_job_has_a_snapshot_if_a_follow_up_is_pending(
    ledger: Ledger, redis: Redis, step: Step
) -> None:
    lost = kit.confirming(ledger) if step is Step.CONFIRM else kit.settled(ledger)
    redis.zrem(keys.jobs(0), lost)
    for other in set(FOLLOW_UPS) - {step}:
        redis.zrem(keys.follow_up(0, other), lost)

    [snapshot] = ledger.overview.snapshots(0)

    assert (snapshot.job_id, snapshot.listed, snapshot.follow_ups) == (lost, False, {step: NOW})


def test_an_expired_job_has_a_snapshot_of_its_entries(ledger: Ledger, redis: Redis) -> None:
    expire(redis, expired := kit.create(ledger))

    [snapshot] = ledger.overview.snapshots(0)
    assert snapshot == Snapshot(expired, None, 0, NOW, {}, listed=False)


def test_jobs_are_read_by_id_and_unknown_ids_are_left_out(sharded: Ledger) -> None:
    ids = [kit.create(sharded) for _ in range(6)]

    jobs = sharded.overview.jobs([*ids, ids[0], identifiers.new_job_id(0, NOW)])

    assert jobs == {job_id: kit.job(sharded, job_id) for job_id in ids}
    assert sharded.overview.jobs([]) == {}


# Totals of an unchanged shard ----------------------------------------------------------------


def test_the_totals_are_returned_if_no_status_changed(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    with ledger.overview.watch_totals(0) as totals:
        list(ledger.overview.snapshots(0))
        kit.defer(ledger, lease)

        summed = totals()

    assert summed is not None
    assert {name: number for name, number in summed.counts.items() if number} == {"running": 1}
    flows = {name: number for name, number in summed.flows.items() if number}
    assert (flows, summed.deadlines) == ({"poll:hiapi:default": 1}, 0)
    assert summed.in_flight == {"hiapi": 1}


CHANGES: dict[str, Callable[[Ledger, str], object]] = {
    "create": lambda x, _: kit.create(x),
    "claim": kit.claim,
    "cancel": lambda x, i: x.cancel(i, now=NOW),
    "two changes": lambda x, i: kit.requeue(x, kit.claim(x, i)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_totals_are_returned_after_a_change_of_status(ledger: Ledger, change: str) -> None:
    job_id = kit.create(ledger)

    with ledger.overview.watch_totals(0) as totals:
        CHANGES[change](ledger, job_id)

        assert totals() is None


def test_a_change_in_another_shard_does_not_matter(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=2)

    key_of_other_shard = next(k for k in map(str, count()) if shard_of_key(k) == 1)

    with ledger.overview.watch_totals(0) as totals:
        ledger.create(
            REQUEST,
            now=NOW,
            deadline_at=DEADLINE,
            idempotency=Idempotency("caller", key_of_other_shard),
        )

        assert totals() == Totals({}, {}, {}, {}, 0, {}, {}, {})
    assert ledger.overview.counts() == {"queued": 1}


def shard_of_key(key: str) -> int:
    return identifiers.pick_shard(2, keys.digest("caller", key))
