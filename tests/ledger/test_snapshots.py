"""Snapshots of all jobs, and counts of a shard that did not change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.ledger import Idempotency, Ledger, identifiers, keys, overview
from orchestrator.ledger.overview import Snapshot
from orchestrator.ledger.totals import Totals
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, NEXT_DUE, NOW, REQUEST
from tests.ledger.test_overview import expire, failed


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=5)


# Snapshots ---------------------------------------------------------------------------------


def test_a_snapshot_has_the_job_its_timeline_and_its_due_time(ledger: Ledger) -> None:
    done, job_id = failed(ledger), kit.running(ledger)

    snapshots = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    assert snapshots == {
        i: Snapshot(i, kit.job(ledger, i), ledger.events(i), due_at, {}, listed=True, old=False)
        for i, due_at in {done: None, job_id: NEXT_DUE}.items()
    }


def test_a_snapshot_has_the_due_time_of_each_pending_follow_up(ledger: Ledger) -> None:
    both, archive, ended = kit.settled(ledger), kit.settled(ledger), kit.finished(ledger)
    kit.finish_follow_up(ledger, archive, Step.NOTIFY)
    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, archive, Step.ARCHIVE), Step.ARCHIVE)

    snapshots = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    assert {job_id: shot.follow_ups for job_id, shot in snapshots.items()} == {
        both: {Step.ARCHIVE: NOW, Step.NOTIFY: NOW},
        archive: {Step.ARCHIVE: NEXT_DUE},
        ended: {},
    }
    assert {shot.due_at for shot in snapshots.values()} == {None}
    assert [kit.job(ledger, job_id) for job_id in snapshots] == [
        shot.job for shot in snapshots.values()
    ]


def test_every_job_of_a_shard_has_one_snapshot(
    sharded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 4)
    ids = [kit.create(sharded) for _ in range(60)]

    snapshots = [list(sharded.overview.snapshots(shard)) for shard in range(5)]

    assert all(shot.listed for shots in snapshots for shot in shots)
    for shard, shots in enumerate(snapshots):
        expected = sorted(job_id for job_id in ids if identifiers.shard_of(job_id) == shard)
        assert [shot.job_id for shot in shots] == expected


def test_an_unlisted_job_has_a_snapshot_if_it_is_in_the_agenda(
    ledger: Ledger, redis: Redis
) -> None:
    lost, other = kit.create(ledger), kit.create(ledger)
    redis.zrem(keys.jobs(0), lost)

    snapshots = {shot.job_id: shot.listed for shot in ledger.overview.snapshots(0)}

    assert snapshots == {lost: False, other: True}


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
    assert snapshot == Snapshot(expired, None, [], NOW, {}, listed=False, old=False)


def test_jobs_are_read_by_id_and_unknown_ids_are_left_out(sharded: Ledger) -> None:
    ids = [kit.create(sharded) for _ in range(6)]

    jobs = sharded.overview.jobs([*ids, ids[0], identifiers.new_job_id(0)])

    assert jobs == {job_id: kit.job(sharded, job_id) for job_id in ids}
    assert sharded.overview.jobs([]) == {}


# Totals of an unchanged shard ----------------------------------------------------------------


def test_the_totals_are_returned_if_no_status_changed(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    with ledger.overview.watch_totals(0) as totals:
        list(ledger.overview.snapshots(0))
        kit.defer(ledger, lease)

        found = totals()

    assert found is not None
    assert {name: number for name, number in found.counts.items() if number} == {"running": 1}
    flows = {name: number for name, number in found.flows.items() if number}
    assert (flows, found.deadlines) == ({"poll:hiapi:default": 1}, 0)
    assert found.in_flight == {"hiapi": 1}


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
