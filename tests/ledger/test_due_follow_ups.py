"""Which follow-ups are due, which of them first, and how much waits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Image, Outcome, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.follow_ups import Backlog, Dead
from tests.ledger import kit
from tests.ledger.kit import DAY, FAILURE, LEASE, LOOK, NOW, Wire


def dying(ledger: Ledger, death: int, *, now: int = NOW) -> str:
    """A job whose images die then; its id."""
    outcome = Outcome.succeeded((Image("https://images.example/0.png", death),))
    return kit.ended(ledger, outcome, now=now)


def due(ledger: Ledger, step: Step, now: int = NOW, limit: int = 10) -> list[str]:
    return ledger.follow_ups.due(0, step, now=now, limit=limit)


def fail(ledger: Ledger, job_id: str, due_at: int = LOOK) -> None:
    lease = kit.follow(ledger, job_id, Step.ARCHIVE)
    kit.later(ledger, lease, Step.ARCHIVE, due_at=due_at)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_nothing_is_due_in_an_empty_ledger(ledger: Ledger, step: Step) -> None:
    assert due(ledger, step) == []
    assert ledger.follow_ups.backlog(step, now=NOW) == Backlog()


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_follow_up_is_due_from_its_next_look_on(ledger: Ledger, step: Step) -> None:
    job_id = kit.ended(ledger)

    assert due(ledger, step, NOW - 1) == []
    assert due(ledger, step, NOW) == due(ledger, step, NOW + 1) == [job_id]
    lease = kit.follow(ledger, job_id, step)
    assert due(ledger, step, lease.ends_at - 1) == []
    assert due(ledger, step, NOW + LEASE) == [job_id]
    kit.later(ledger, lease, step, due_at=LOOK)
    assert due(ledger, step, LOOK - 1) == []
    assert due(ledger, step, LOOK) == [job_id]
    kit.followed(ledger, job_id, step, now=LOOK)
    assert due(ledger, step, LOOK * 2) == []


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_times_of_what_is_due_are_compared_as_numbers(ledger: Ledger, step: Step) -> None:
    early, late = kit.ended(ledger, now=999), kit.ended(ledger, now=1_000)

    assert due(ledger, step, 999) == [early]
    assert sorted(due(ledger, step, 1_000)) == sorted([early, late])


def test_the_longest_overdue_notifications_come_first_and_no_more_than_asked_for(
    ledger: Ledger,
) -> None:
    ids = [kit.ended(ledger, FAILURE, now=NOW - late) for late in range(12)]

    assert due(ledger, Step.NOTIFY) == ids[:1:-1]
    assert due(ledger, Step.NOTIFY, limit=3) == ids[:-4:-1]


@pytest.mark.parametrize("limit", [1, 3, 12, 40])
def test_archives_whose_links_die_soonest_come_first(ledger: Ledger, limit: int) -> None:
    deaths = [5, 1, 9, 3, 11, 2, 8, 4, 12, 6, 10, 7]
    ids = {death: dying(ledger, NOW + DAY + death, now=NOW - death) for death in deaths}

    assert due(ledger, Step.ARCHIVE, limit=limit) == [ids[n] for n in range(1, 13)][:limit]


def test_archives_that_wait_for_their_next_try_do_not_keep_the_others_from_theirs(
    ledger: Ledger,
) -> None:
    failed = [dying(ledger, NOW + n) for n in range(10)]
    fine = [dying(ledger, NOW + DAY + n, now=NOW - n) for n in range(6)]
    for job_id in failed:
        fail(ledger, job_id)

    assert due(ledger, Step.ARCHIVE, limit=4) == fine[:1:-1], "the longest overdue"
    assert sorted(due(ledger, Step.ARCHIVE)) == sorted(fine)
    assert due(ledger, Step.ARCHIVE, LOOK, limit=10) == failed, "theirs has come"


def test_no_more_archives_are_listed_than_asked_for_from_either_order(ledger: Ledger) -> None:
    urgent, *waiting = [dying(ledger, NOW + n) for n in range(3)]
    others = [dying(ledger, NOW + DAY + n, now=NOW - 9 + n) for n in range(5)]
    for job_id in waiting:
        fail(ledger, job_id)

    assert due(ledger, Step.ARCHIVE, limit=3) == [urgent, *others[:2]]


def test_an_archive_that_is_due_is_listed_once(ledger: Ledger) -> None:
    urgent, waiting = dying(ledger, NOW), dying(ledger, NOW + 1)
    other = dying(ledger, NOW + 2, now=NOW - 1)
    fail(ledger, waiting)

    assert due(ledger, Step.ARCHIVE, limit=2) == [urgent, other]
    assert due(ledger, Step.ARCHIVE, limit=3) == [urgent, other]


def test_every_archive_has_its_turn_whoever_fails_for_ever(ledger: Ledger) -> None:
    broken = [dying(ledger, NOW + n) for n in range(6)]
    fine = {dying(ledger, NOW + DAY + n) for n in range(9)}
    seen: set[str] = set()

    for turn in range(20):
        now = NOW + turn
        for job_id in due(ledger, Step.ARCHIVE, now, limit=3):
            seen.add(job_id)
            lease = kit.follow(ledger, job_id, Step.ARCHIVE, now=now)
            if job_id in broken:
                kit.later(ledger, lease, Step.ARCHIVE, due_at=now + 5)
            else:
                kit.done(ledger, lease, Step.ARCHIVE, now=now)

    assert seen == fine | set(broken)


def test_entries_of_jobs_that_are_not_to_be_archived_are_passed_over(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = dying(ledger, NOW + DAY)
    redis.zadd(keys.expiring(0), {f"gone-{n}": n for n in range(8)})

    assert due(ledger, Step.ARCHIVE, limit=4) == [job_id]


def test_what_a_look_at_the_archives_costs_does_not_grow_with_them(
    real_redis: Redis, ledger: Ledger
) -> None:
    def commands(many: int) -> int:
        real_redis.flushdb()
        ids = {f"job-{number}": NOW + 1 for number in range(many)}
        real_redis.zadd(keys.follow_up(0, Step.ARCHIVE), ids)
        real_redis.zadd(keys.expiring(0), ids)
        real_redis.config_resetstat()
        crowd = Ledger(lambda: real_redis)
        assert crowd.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=5) == []
        stats: Any = real_redis.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if "_z" in name)

    assert commands(20) == commands(2000) == 5 + 2, "one score for each of the limit, two lists"


# How much waits ----------------------------------------------------------------------------


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=3)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_the_backlog_of_all_shards_and_the_longest_delay(sharded: Ledger, step: Step) -> None:
    ids = [kit.ended(sharded, now=NOW + late) for late in range(20)]
    assert len({keys.shard_of(job_id) for job_id in ids}) == 3

    def told(now: int) -> Backlog:
        return sharded.follow_ups.backlog(step, now=now)

    assert told(NOW - 1) == Backlog(pending=20, due=0, lag=0)
    assert told(NOW) == Backlog(pending=20, due=1, lag=0)
    assert told(NOW + 9) == Backlog(pending=20, due=10, lag=9)
    assert told(LOOK) == Backlog(pending=20, due=20, lag=LOOK - NOW)
    kit.followed(sharded, ids[0], step, now=LOOK)
    assert told(LOOK) == Backlog(pending=19, due=19, lag=LOOK - NOW - 1)


def test_each_shard_lists_its_own(sharded: Ledger) -> None:
    ids = [kit.ended(sharded) for _ in range(20)]

    for step in FOLLOW_UPS:
        for shard in range(3):
            found = sharded.follow_ups.due(shard, step, now=NOW, limit=99)
            assert sorted(found) == sorted(i for i in ids if keys.shard_of(i) == shard)


def test_images_at_risk_are_those_without_a_copy_whose_links_may_die_before(
    sharded: Ledger,
) -> None:
    ids = [dying(sharded, NOW + n) for n in range(12)]

    assert sharded.follow_ups.at_risk(before=NOW - 1) == 0
    assert sharded.follow_ups.at_risk(before=NOW) == 1
    assert sharded.follow_ups.at_risk(before=NOW + 9) == 10
    assert sharded.follow_ups.at_risk(before=LOOK) == 12
    kit.followed(sharded, ids[0], Step.ARCHIVE)
    kit.followed(sharded, ids[1], Step.ARCHIVE, FollowUpStatus.DEAD)
    kit.followed(sharded, ids[2], Step.NOTIFY)
    assert sharded.follow_ups.at_risk(before=LOOK) == 10


def test_notifications_that_were_given_up_are_listed_oldest_first(sharded: Ledger) -> None:
    ids = [kit.ended(sharded, FAILURE) for _ in range(9)]
    for number, job_id in reversed([*enumerate(ids)]):
        kit.followed(sharded, job_id, Step.NOTIFY, FollowUpStatus.DEAD, now=NOW + number)

    everyone = [Dead(job_id, NOW + number) for number, job_id in enumerate(ids)]
    assert sharded.follow_ups.dead(100) == (9, everyone)
    assert sharded.follow_ups.dead(0) == (9, [])
    assert sharded.follow_ups.dead(4) == (9, everyone[:4])
    assert sharded.follow_ups.dead(4, since=NOW + 3) == (6, everyone[3:7])
    assert sharded.follow_ups.dead(4, since=LOOK) == (0, [])
    sharded.follow_ups.notify_again(ids[4], now=LOOK)
    assert sharded.follow_ups.dead(100) == (8, everyone[:4] + everyone[5:])
    assert all(a.since < b.since for a, b in pairwise(sharded.follow_ups.dead(100)[1]))


@pytest.mark.parametrize("end", [FollowUpStatus.DONE, FollowUpStatus.GONE])
def test_only_what_was_given_up_is_listed_so(ledger: Ledger, end: FollowUpStatus) -> None:
    kit.followed(ledger, kit.ended(ledger, FAILURE), Step.NOTIFY, end)
    kit.followed(ledger, kit.ended(ledger), Step.ARCHIVE, FollowUpStatus.DEAD)

    assert ledger.follow_ups.dead(10) == (0, [])


def test_looking_at_what_follows_changes_nothing(wire: Wire, redis: Redis) -> None:
    ledger = Ledger(lambda: cast(Redis, wire))
    kit.ended(ledger)
    kit.followed(ledger, kit.ended(ledger), Step.NOTIFY, FollowUpStatus.DEAD)
    before = kit.everything(redis)

    for step in FOLLOW_UPS:
        due(ledger, step)
        ledger.follow_ups.backlog(step, now=NOW)
    ledger.follow_ups.at_risk(before=LOOK)
    ledger.follow_ups.dead(5)

    assert kit.everything(redis) == before
