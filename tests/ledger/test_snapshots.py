"""Snapshots of all jobs, each as it was at one moment, and shards that stand still."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.ledger import Idempotency, Ledger, keys, overview
from orchestrator.ledger.overview import Snapshot
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, LOOK, NOW, REQUEST
from tests.ledger.test_overview import expire, settled


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=5)


# Snapshots ---------------------------------------------------------------------------------


def test_a_snapshot_is_a_job_with_its_timeline_and_next_look(ledger: Ledger) -> None:
    done, job_id = settled(ledger), kit.running(ledger)

    seen = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    assert seen == {
        i: Snapshot(i, kit.job(ledger, i), ledger.events(i), look, {}, listed=True)
        for i, look in {done: None, job_id: LOOK}.items()
    }


def test_a_snapshot_has_the_next_look_of_each_follow_up_that_is_pending(ledger: Ledger) -> None:
    both, told, none = kit.ended(ledger), kit.ended(ledger), kit.quiet(ledger)
    kit.followed(ledger, told, Step.NOTIFY)
    kit.later(ledger, kit.follow(ledger, told, Step.ARCHIVE), Step.ARCHIVE)

    seen = {shot.job_id: shot for shot in ledger.overview.snapshots(0)}

    assert {job_id: shot.follow_ups for job_id, shot in seen.items()} == {
        both: {Step.ARCHIVE: NOW, Step.NOTIFY: NOW},
        told: {Step.ARCHIVE: LOOK},
        none: {},
    }
    assert {shot.due_at for shot in seen.values()} == {None}
    assert [kit.job(ledger, job_id) for job_id in seen] == [shot.job for shot in seen.values()]


def test_every_job_of_a_shard_is_seen_once(
    sharded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 4)
    ids = [kit.create(sharded) for _ in range(60)]

    seen = [list(sharded.overview.snapshots(shard)) for shard in range(5)]

    assert all(shot.listed for shots in seen for shot in shots)
    for shard, shots in enumerate(seen):
        mine = sorted(job_id for job_id in ids if keys.shard_of(job_id) == shard)
        assert [shot.job_id for shot in shots] == mine


def test_a_job_that_is_not_listed_is_seen_by_its_place_in_the_agenda(
    ledger: Ledger, redis: Redis
) -> None:
    lost, other = kit.create(ledger), kit.create(ledger)
    redis.zrem(keys.jobs(0), lost)

    seen = {shot.job_id: shot.listed for shot in ledger.overview.snapshots(0)}

    assert seen == {lost: False, other: True}


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_job_that_is_not_listed_is_seen_by_what_is_to_follow(
    ledger: Ledger, redis: Redis, step: Step
) -> None:
    lost = kit.ended(ledger)
    redis.zrem(keys.jobs(0), lost)
    for other in set(FOLLOW_UPS) - {step}:
        redis.zrem(keys.follow_up(0, other), lost)

    [seen] = ledger.overview.snapshots(0)

    assert (seen.job_id, seen.listed, seen.follow_ups) == (lost, False, {step: NOW})


def test_a_job_that_is_gone_is_seen_by_what_is_left_of_it(ledger: Ledger, redis: Redis) -> None:
    expire(redis, gone := kit.create(ledger))

    assert list(ledger.overview.snapshots(0)) == [Snapshot(gone, None, [], NOW, {}, listed=True)]


def test_jobs_are_read_by_id_without_those_that_are_gone(sharded: Ledger) -> None:
    ids = [kit.create(sharded) for _ in range(6)]

    found = sharded.overview.jobs([*ids, ids[0], keys.new_job_id(0)])

    assert found == {job_id: kit.job(sharded, job_id) for job_id in ids}
    assert sharded.overview.jobs([]) == {}


# A shard that stands still -----------------------------------------------------------------


def test_the_counts_of_a_shard_are_told_while_nothing_moves(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)

    with ledger.overview.watch_counts(0) as counts:
        list(ledger.overview.snapshots(0))
        kit.defer(ledger, lease)  # no job has another status

        told = counts()

    assert told is not None
    assert {name: number for name, number in told.items() if number} == {"running": 1}


MOVES: dict[str, Callable[[Ledger, str], object]] = {
    "create": lambda x, _: kit.create(x),
    "claim": kit.claim,
    "cancel": lambda x, i: x.cancel(i, now=NOW),
    "there and back": lambda x, i: kit.requeue(x, kit.claim(x, i)),
}


@pytest.mark.parametrize("move", MOVES)
def test_no_counts_are_told_once_a_job_has_moved(ledger: Ledger, move: str) -> None:
    job_id = kit.create(ledger)

    with ledger.overview.watch_counts(0) as counts:
        MOVES[move](ledger, job_id)

        assert counts() is None


def test_another_shards_moves_do_not_matter(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=2)

    elsewhere = next(k for k in map(str, count()) if shard_of_key(k) == 1)

    with ledger.overview.watch_counts(0) as counts:
        ledger.create(
            REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=Idempotency("caller", elsewhere)
        )

        assert counts() == {}
    assert ledger.overview.counts() == {"queued": 1}


def shard_of_key(key: str) -> int:
    return keys.pick_shard(2, keys.digest("caller", key))
