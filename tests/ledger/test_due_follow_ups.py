"""Which follow-ups are due, in which order, and how many are pending."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from redis import Redis

from orchestrator.jobs.model import OUTCOME_STEPS, FollowUpStatus, Image, Outcome, Step
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger import Ledger, identifiers, keys
from orchestrator.ledger.follow_ups import Backlog, Dead
from tests.ledger import kit
from tests.ledger.kit import DAY, FAILURE, LEASE, NEXT_DUE, NOW
from tests.ledger.recording import RecordingClient


def expiring(ledger: Ledger, expiry: int, *, now: int = NOW) -> str:
    """Create a succeeded job. Its image link expires at `expiry` (ms). Return its id."""
    outcome = Outcome.succeeded((Image("https://images.example/0.png", expiry),))
    return kit.settled(ledger, outcome, now=now)


def due(ledger: Ledger, step: Step, now: int = NOW, limit: int = 10) -> list[str]:
    return ledger.follow_ups.due(0, step, now=now, limit=limit)


def fail(ledger: Ledger, job_id: str) -> None:
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    kit.retry_follow_up(ledger, lease, Step.ARCHIVE, due_at=NEXT_DUE)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_nothing_is_due_in_an_empty_ledger(ledger: Ledger, step: Step) -> None:
    assert due(ledger, step) == []
    assert ledger.follow_ups.backlog(step, now=NOW) == Backlog()


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_follow_up_is_due_from_its_due_time_on(ledger: Ledger, step: Step) -> None:
    job_id = kit.settled(ledger)

    assert due(ledger, step, NOW - 1) == []
    assert due(ledger, step, NOW) == due(ledger, step, NOW + 1) == [job_id]
    lease = kit.claim_follow_up(ledger, job_id, step)
    assert due(ledger, step, lease.ends_at - 1) == []
    assert due(ledger, step, NOW + LEASE) == [job_id]
    kit.retry_follow_up(ledger, lease, step, due_at=NEXT_DUE)
    assert due(ledger, step, NEXT_DUE - 1) == []
    assert due(ledger, step, NEXT_DUE) == [job_id]
    kit.finish_follow_up(ledger, job_id, step, now=NEXT_DUE)
    assert due(ledger, step, NEXT_DUE * 2) == []


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_due_times_are_compared_as_numbers(ledger: Ledger, step: Step) -> None:
    early, late = kit.settled(ledger, now=999), kit.settled(ledger, now=1_000)

    assert due(ledger, step, 999) == [early]
    assert sorted(due(ledger, step, 1_000)) == sorted([early, late])


def test_the_longest_overdue_notifications_come_first_up_to_the_limit(
    ledger: Ledger,
) -> None:
    ids = [kit.settled(ledger, FAILURE, now=NOW - late) for late in range(12)]

    assert due(ledger, Step.NOTIFY) == ids[:1:-1]
    assert due(ledger, Step.NOTIFY, limit=3) == ids[:-4:-1]


@pytest.mark.parametrize("limit", [1, 3, 12, 40])
def test_archives_with_the_earliest_link_expiry_come_first(ledger: Ledger, limit: int) -> None:
    expiries = [5, 1, 9, 3, 11, 2, 8, 4, 12, 6, 10, 7]
    ids = {n: expiring(ledger, NOW + DAY + n, now=NOW - n) for n in expiries}

    assert due(ledger, Step.ARCHIVE, limit=limit) == [ids[n] for n in range(1, 13)][:limit]


def test_archives_that_are_not_due_do_not_hide_due_archives(
    ledger: Ledger,
) -> None:
    failed = [expiring(ledger, NOW + n) for n in range(10)]
    due_now = [expiring(ledger, NOW + DAY + n, now=NOW - n) for n in range(6)]
    for job_id in failed:
        fail(ledger, job_id)

    assert due(ledger, Step.ARCHIVE, limit=4) == due_now[:1:-1], "the longest overdue"
    assert sorted(due(ledger, Step.ARCHIVE)) == sorted(due_now)
    assert due(ledger, Step.ARCHIVE, NEXT_DUE, limit=10) == failed, "they are due now"


def test_archives_of_both_orders_are_listed_up_to_the_limit(ledger: Ledger) -> None:
    urgent, *waiting = [expiring(ledger, NOW + n) for n in range(3)]
    others = [expiring(ledger, NOW + DAY + n, now=NOW - 9 + n) for n in range(5)]
    for job_id in waiting:
        fail(ledger, job_id)

    assert due(ledger, Step.ARCHIVE, limit=3) == [urgent, *others[:2]]


def test_a_due_archive_is_listed_once(ledger: Ledger) -> None:
    urgent, waiting = expiring(ledger, NOW), expiring(ledger, NOW + 1)
    other = expiring(ledger, NOW + 2, now=NOW - 1)
    fail(ledger, waiting)

    assert due(ledger, Step.ARCHIVE, limit=2) == [urgent, other]
    assert due(ledger, Step.ARCHIVE, limit=3) == [urgent, other]


def test_every_archive_is_listed_although_some_always_fail(ledger: Ledger) -> None:
    broken = [expiring(ledger, NOW + n) for n in range(6)]
    working = {expiring(ledger, NOW + DAY + n) for n in range(9)}
    seen: set[str] = set()

    for tick in range(20):
        now = NOW + tick
        for job_id in due(ledger, Step.ARCHIVE, now, limit=3):
            seen.add(job_id)
            lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE, now=now)
            if job_id in broken:
                kit.retry_follow_up(ledger, lease, Step.ARCHIVE, due_at=now + 5)
            else:
                kit.end_follow_up(ledger, lease, Step.ARCHIVE, now=now)

    assert seen == working | set(broken)


def test_entries_without_a_pending_archive_are_skipped(ledger: Ledger, redis: Redis) -> None:
    job_id = expiring(ledger, NOW + DAY)
    redis.zadd(keys.expiring(0), {f"gone-{n}": n for n in range(8)})

    assert due(ledger, Step.ARCHIVE, limit=4) == [job_id]


@pytest.mark.one_server
def test_the_cost_of_listing_archives_depends_on_the_limit_only(
    real_redis: Redis, ledger: Ledger
) -> None:
    def commands(many: int) -> int:
        real_redis.flushdb()
        lists = {f"job-{number}": NOW + (number > 0) for number in range(many)}
        real_redis.zadd(keys.follow_up(0, Step.ARCHIVE), lists)
        real_redis.zadd(keys.followed(0, Step.ARCHIVE), {DEFAULT_TENANT: NOW})
        real_redis.zadd(keys.expiring(0), dict.fromkeys(lists, NOW))
        real_redis.hset(keys.root(0) + "job:job-0", "status", "succeeded")
        real_redis.config_resetstat()
        ledger = Ledger(lambda: real_redis)
        assert ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=5) == ["job-0"]
        stats: Any = real_redis.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if "_z" in name)

    assert commands(20) == commands(2000) == 5 + 6, (
        "one score per entry of the limit, five lists, and one number"
    )


def share(ledger: Ledger, tenant: str, number: int) -> list[str]:
    """Settle jobs of a tenant, each later than the one before. Return their ids."""
    return [kit.settled(ledger, now=NOW - 99 + n, tenant=tenant) for n in range(number)]


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_follow_ups_of_every_tenant_are_listed_in_turn(ledger: Ledger, step: Step) -> None:
    busy, small, other = (share(ledger, name, n) for name, n in (("a", 9), ("b", 1), ("c", 3)))

    assert due(ledger, step, limit=2) != busy[:2]
    assert due(ledger, step, limit=6) == [small[0], other[0], busy[0], other[1], busy[1], other[2]]
    assert sorted(due(ledger, step, limit=99)) == sorted(busy + small + other)
    for job_id in small + other:
        kit.finish_follow_up(ledger, job_id, step)
    assert due(ledger, step, limit=2) == busy[:2]


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_with_fewer_places_than_tenants_each_has_its_turn(ledger: Ledger, step: Step) -> None:
    ids = {job_id for name in "abc" for job_id in share(ledger, name, 1)}

    listed = {job_id for n in range(3) for job_id in due(ledger, step, NOW + n * 1000, limit=1)}

    assert listed == ids


def test_follow_ups_of_an_older_version_enter_the_flows_of_their_tenants(
    ledger: Ledger, redis: Redis
) -> None:
    ids = {tenant: share(ledger, tenant, 2) for tenant in ("a", "b")}
    later = share(ledger, "a", 1)
    fail(ledger, later[0])
    finished = kit.settled(ledger)
    for step in OUTCOME_STEPS:
        for tenant in ("a", "b"):
            kit.make_follow_ups_old(redis, step, tenant)
        kit.finish_follow_up(ledger, finished, step)
        redis.zadd(keys.old_follow_up(0, step), {finished: NOW, "gone": NOW})
    before = [ledger.follow_ups.backlog(step, now=NOW) for step in OUTCOME_STEPS]
    assert [each.pending for each in before] == [5 + 2] * 2
    assert ledger.follow_ups.at_risk(9, now=NOW, before=NOW + DAY)[0] == 5

    for step in OUTCOME_STEPS:
        expected = {*ids["a"], *ids["b"], *(later if step is Step.NOTIFY else ())}
        assert set(due(ledger, step)) == expected
        assert not redis.exists(keys.old_follow_up(0, step), keys.old_expiring(0))
    assert ledger.follow_ups.backlog(Step.ARCHIVE, now=NOW).pending == 5
    assert ledger.follow_ups.at_risk(9, now=NOW, before=NOW + DAY)[0] == 5
    for job_id in (*ids["a"], *ids["b"]):
        kit.finish_follow_up(ledger, job_id, Step.ARCHIVE)
    assert due(ledger, Step.ARCHIVE) == []
    assert due(ledger, Step.ARCHIVE, NEXT_DUE) == later


# The backlog ---------------------------------------------------------------------------------


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=3)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_the_backlog_counts_all_shards_and_has_the_longest_delay(
    sharded: Ledger, step: Step
) -> None:
    ids = [kit.settled(sharded, now=NOW + late) for late in range(20)]
    assert len({identifiers.shard_of(job_id) for job_id in ids}) == 3

    def backlog(now: int) -> Backlog:
        return sharded.follow_ups.backlog(step, now=now)

    assert backlog(NOW - 1) == Backlog(pending=20, due=0, lag=0)
    assert backlog(NOW) == Backlog(pending=20, due=1, lag=0)
    assert backlog(NOW + 9) == Backlog(pending=20, due=10, lag=9)
    assert backlog(NEXT_DUE) == Backlog(pending=20, due=20, lag=NEXT_DUE - NOW)
    kit.finish_follow_up(sharded, ids[0], step, now=NEXT_DUE)
    assert backlog(NEXT_DUE) == Backlog(pending=19, due=19, lag=NEXT_DUE - NOW - 1)


def test_each_shard_lists_its_own(sharded: Ledger) -> None:
    ids = [kit.settled(sharded) for _ in range(20)]

    for step in OUTCOME_STEPS:
        for shard in range(3):
            listed = sharded.follow_ups.due(shard, step, now=NOW, limit=99)
            assert sorted(listed) == sorted(i for i in ids if identifiers.shard_of(i) == shard)


def test_images_are_at_risk_without_a_copy_when_their_links_expire_soon(sharded: Ledger) -> None:
    ids = [expiring(sharded, NOW + n) for n in range(12)]

    def at_risk(before: int, limit: int = 99) -> tuple[int, list[str]]:
        return sharded.follow_ups.at_risk(limit, now=NOW, before=before)

    assert at_risk(NOW - 1) == (0, [])
    assert at_risk(NOW) == (1, ids[:1])
    assert at_risk(NOW + 9) == (10, ids[:10])
    assert at_risk(NEXT_DUE) == (12, ids)
    assert at_risk(NEXT_DUE, limit=3) == (12, ids[:3])
    kit.finish_follow_up(sharded, ids[0], Step.ARCHIVE)
    kit.finish_follow_up(sharded, ids[2], Step.NOTIFY)
    assert at_risk(NEXT_DUE) == (11, ids[1:])


def test_images_that_were_given_up_are_at_risk_until_their_links_expire(sharded: Ledger) -> None:
    later, soon = expiring(sharded, NEXT_DUE + 5), expiring(sharded, NOW + 2)
    for job_id in (later, soon):
        kit.finish_follow_up(sharded, job_id, Step.ARCHIVE, FollowUpStatus.DEAD)

    def at_risk(now: int) -> tuple[int, list[str]]:
        return sharded.follow_ups.at_risk(99, now=now, before=NOW + 1)

    assert at_risk(NOW + 1) == (2, [soon, later])
    assert at_risk(NOW + 2) == (1, [later])
    assert at_risk(NEXT_DUE + 5) == (0, [])


def test_the_list_of_given_up_images_does_not_grow(ledger: Ledger, redis: Redis) -> None:
    for number in range(3):
        job_id = expiring(ledger, NOW + number)
        kit.finish_follow_up(ledger, job_id, Step.ARCHIVE, FollowUpStatus.DEAD, now=NOW + number)

    assert redis.zcard(keys.given_up(0)) == 0


def test_failed_notifications_are_listed_oldest_first(sharded: Ledger) -> None:
    ids = [kit.settled(sharded, FAILURE) for _ in range(9)]
    for number, job_id in reversed([*enumerate(ids)]):
        kit.finish_follow_up(sharded, job_id, Step.NOTIFY, FollowUpStatus.DEAD, now=NOW + number)

    failed = [Dead(job_id, NOW + number) for number, job_id in enumerate(ids)]
    assert sharded.follow_ups.dead(100) == (9, failed)
    assert sharded.follow_ups.dead(0) == (9, [])
    assert sharded.follow_ups.dead(4) == (9, failed[:4])
    assert sharded.follow_ups.dead(4, since=NOW + 3) == (6, failed[3:7])
    assert sharded.follow_ups.dead(4, since=NEXT_DUE) == (0, [])
    sharded.follow_ups.notify_again(ids[4], now=NEXT_DUE)
    assert sharded.follow_ups.dead(100) == (8, failed[:4] + failed[5:])
    assert all(a.since < b.since for a, b in pairwise(sharded.follow_ups.dead(100)[1]))


@pytest.mark.parametrize("end", [FollowUpStatus.DONE, FollowUpStatus.GONE])
def test_only_failed_notifications_are_listed(ledger: Ledger, end: FollowUpStatus) -> None:
    kit.finish_follow_up(ledger, kit.settled(ledger, FAILURE), Step.NOTIFY, end)
    kit.finish_follow_up(ledger, kit.settled(ledger), Step.ARCHIVE, FollowUpStatus.DEAD)

    assert ledger.follow_ups.dead(10) == (0, [])


def test_reading_follow_ups_changes_nothing(recorder: RecordingClient, redis: Redis) -> None:
    ledger = Ledger(lambda: cast(Redis, recorder))
    kit.settled(ledger)
    kit.finish_follow_up(ledger, kit.settled(ledger), Step.NOTIFY, FollowUpStatus.DEAD)
    before = kit.state(redis)

    for step in OUTCOME_STEPS:
        due(ledger, step)
        ledger.follow_ups.backlog(step, now=NOW)
    ledger.follow_ups.at_risk(5, now=NOW, before=NEXT_DUE)
    ledger.follow_ups.dead(5)

    assert kit.state(redis) == before
