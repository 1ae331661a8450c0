"""The agenda: which jobs are due. The cost grows with the due jobs, not with the open jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, Room, keys
from tests.ledger import kit
from tests.ledger.kit import LEASE, NEXT_DUE, NOW, REQUEST, SUCCESS


def test_nothing_is_due_in_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.agenda.due(0, now=NOW, limit=10) == []


def test_a_job_is_due_from_its_due_time_on(ledger: Ledger) -> None:
    job_id = kit.running(ledger)

    assert ledger.agenda.due(0, now=NEXT_DUE - 1, limit=10) == []
    assert ledger.agenda.due(0, now=NEXT_DUE, limit=10) == [(job_id, Step.POLL)]
    assert ledger.agenda.due(0, now=NEXT_DUE + 1, limit=10) == [(job_id, Step.POLL)]


def test_each_open_status_has_its_step(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease)
    steps = {
        kit.create(ledger): Step.SUBMIT,
        kit.submitting(ledger).job.id: Step.SUBMIT,
        lease.job.id: Step.SUBMIT,
        kit.running(ledger): Step.POLL,
    }

    assert dict(ledger.agenda.due(0, now=NEXT_DUE, limit=10)) == steps


def test_a_leased_job_is_due_again_when_the_lease_ends(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    assert ledger.agenda.due(0, now=NOW + LEASE - 1, limit=10) == []
    assert ledger.agenda.due(0, now=NOW + LEASE, limit=10) == [(lease.job.id, Step.SUBMIT)]


def test_a_settled_job_is_never_due(ledger: Ledger) -> None:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    assert ledger.agenda.due(0, now=NEXT_DUE * 2, limit=10) == []


def test_a_settled_job_in_the_agenda_is_left_out_and_does_not_hide_other_jobs(
    ledger: Ledger, redis: Redis
) -> None:
    done, waiting = kit.create(ledger), kit.create(ledger)
    ledger.cancel(done, now=NOW)
    redis.zadd(keys.agenda(0), {done: NOW - 1})

    assert ledger.agenda.due(0, now=NOW, limit=10) == [(waiting, Step.SUBMIT)]


def test_the_longest_overdue_jobs_come_first_up_to_the_limit(ledger: Ledger) -> None:
    late = {ago: kit.create(ledger, now=NOW - ago) for ago in (20, 50, 10, 40, 30)}

    listed = ledger.agenda.due(0, now=NOW, limit=3)

    assert listed == [(late[ago], Step.SUBMIT) for ago in (50, 40, 30)]


def test_entries_of_expired_jobs_are_removed(ledger: Ledger, redis: Redis) -> None:
    expired, existing = kit.create(ledger, now=NOW - 1), kit.create(ledger)
    redis.delete(keys.job(expired))

    assert ledger.agenda.due(0, now=NOW, limit=10) == [(existing, Step.SUBMIT)]

    assert kit.due_at(redis, expired) is None
    assert kit.due_at(redis, existing) == NOW


def test_listing_due_jobs_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    kit.create(ledger)
    before = kit.state(redis)

    assert ledger.agenda.due(0, now=NOW, limit=1) == ledger.agenda.due(0, now=NOW, limit=1)
    assert kit.state(redis) == before


@pytest.mark.one_server
@pytest.mark.parametrize("not_due", [0, 300])
def test_the_cost_of_listing_depends_on_the_due_jobs_only(
    shared_ledger: Ledger, real_redis: Redis, not_due: int
) -> None:
    for _ in range(3):
        kit.create(shared_ledger)
    for _ in range(not_due):
        kit.create(shared_ledger, now=NOW + 1)
    shared_ledger.agenda.due(0, now=0, limit=1)  # loads the script
    real_redis.config_resetstat()

    assert len(shared_ledger.agenda.due(0, now=NOW, limit=100)) == 3

    stats: Any = real_redis.info("commandstats")
    calls = {name: stat["calls"] for name, stat in stats.items() if "config" not in name}
    agenda = {"zrangebyscore": 1, "hmget": 3}  # each due entry is of this version
    flows = {"zrangebyscore": 3, "zrange": 1, "zcount": 1, "hmget": 4}
    movable = {"zcard": 1}
    expected = Counter(evalsha=1, xtrim=1) + Counter(agenda) + Counter(flows) + Counter(movable)
    assert calls == {f"cmdstat_{name}": number for name, number in expected.items()}


def test_only_jobs_with_room_are_listed(ledger: Ledger) -> None:
    providers = ["hiapi", "hiapi", "evolink", "hiapi", "uniall", "other"]
    ids = [
        kit.create(ledger, replace(REQUEST, provider=provider), now=NOW + n)
        for n, provider in enumerate(providers)
    ]

    listed = ledger.agenda.due_within(
        0, now=NOW + 9, limit=9, room=Room({"hiapi": 2, "evolink": 0}, others=1)
    )

    assert listed == [
        (ids[0], Step.SUBMIT, "hiapi"),
        (ids[1], Step.SUBMIT, "hiapi"),
        (ids[4], Step.SUBMIT, "uniall"),
    ]
