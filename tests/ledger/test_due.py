"""The agenda: which jobs need a look now, at a cost that does not grow with those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, keys
from tests.ledger import kit
from tests.ledger.kit import LEASE, LOOK, NOW, SUCCESS


def test_nothing_is_due_in_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.due(0, now=NOW, limit=10) == []


def test_a_job_is_due_from_its_next_look_on(ledger: Ledger) -> None:
    job_id = kit.running(ledger)

    assert ledger.due(0, now=LOOK - 1, limit=10) == []
    assert ledger.due(0, now=LOOK, limit=10) == [(job_id, Step.POLL)]
    assert ledger.due(0, now=LOOK + 1, limit=10) == [(job_id, Step.POLL)]


def test_each_open_status_waits_for_its_step(ledger: Ledger) -> None:
    unsure = kit.submitting(ledger)
    kit.unconfirmed(ledger, unsure)
    waiting = {
        kit.create(ledger): Step.SUBMIT,
        kit.submitting(ledger).job.id: Step.SUBMIT,
        unsure.job.id: Step.SUBMIT,
        kit.running(ledger): Step.POLL,
    }

    assert dict(ledger.due(0, now=LOOK, limit=10)) == waiting


def test_a_leased_job_is_due_again_when_the_lease_ends(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    assert ledger.due(0, now=NOW + LEASE - 1, limit=10) == []
    assert ledger.due(0, now=NOW + LEASE, limit=10) == [(lease.job.id, Step.SUBMIT)]


def test_a_settled_job_is_never_due(ledger: Ledger) -> None:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    assert ledger.due(0, now=LOOK * 2, limit=10) == []


def test_a_settled_job_that_a_hand_put_into_the_agenda_keeps_no_other_from_being_due(
    ledger: Ledger, redis: Redis
) -> None:
    done, waiting = kit.create(ledger), kit.create(ledger)
    ledger.cancel(done, now=NOW)
    redis.zadd(keys.agenda(0), {done: NOW - 1})

    assert ledger.due(0, now=NOW, limit=10) == [(waiting, Step.SUBMIT)]


def test_the_longest_overdue_come_first_and_no_more_than_asked_for(ledger: Ledger) -> None:
    late = {ago: kit.create(ledger, now=NOW - ago) for ago in (20, 50, 10, 40, 30)}

    found = ledger.due(0, now=NOW, limit=3)

    assert found == [(late[ago], Step.SUBMIT) for ago in (50, 40, 30)]


def test_entries_whose_job_is_gone_are_dropped(ledger: Ledger, redis: Redis) -> None:
    gone, there = kit.create(ledger, now=NOW - 1), kit.create(ledger)
    redis.delete(keys.job(gone))

    assert ledger.due(0, now=NOW, limit=10) == [(there, Step.SUBMIT)]

    assert kit.due_at(redis, gone) is None
    assert kit.due_at(redis, there) == NOW


def test_listing_what_is_due_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    kit.create(ledger)
    before = kit.everything(redis)

    assert ledger.due(0, now=NOW, limit=1) == ledger.due(0, now=NOW, limit=1)
    assert kit.everything(redis) == before


@pytest.mark.parametrize("waiting", [0, 300])
def test_a_sweep_costs_what_is_due_and_not_what_is_open(
    crowd: Ledger, real_redis: Redis, waiting: int
) -> None:
    for _ in range(3):
        kit.create(crowd)
    for _ in range(waiting):
        kit.create(crowd, now=NOW + 1)
    crowd.due(0, now=0, limit=1)  # the script is loaded
    real_redis.config_resetstat()

    assert len(crowd.due(0, now=NOW, limit=100)) == 3

    stats: Any = real_redis.info("commandstats")
    calls = {name: stat["calls"] for name, stat in stats.items() if "config" not in name}
    assert calls == {"cmdstat_evalsha": 1, "cmdstat_zrangebyscore": 1, "cmdstat_hget": 3}
