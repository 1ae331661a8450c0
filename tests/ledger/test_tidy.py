"""What is left of jobs that expired is forgotten, wherever it is listed."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis import Redis

from orchestrator.ledger import Ledger, keys, overview
from orchestrator.ledger.overview import Unconfirmed
from tests.ledger import kit
from tests.ledger.kit import NOW, Wire
from tests.ledger.test_forget import dead
from tests.ledger.test_overview import at_risk, expire, listed, unconfirmed


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=5)


def test_entries_of_expired_jobs_are_forgotten_in_every_shard(
    sharded: Ledger, redis: Redis
) -> None:
    kept, gone = kit.create(sharded), [unconfirmed(sharded).job.id for _ in range(12)]
    expire(redis, *gone)

    assert sharded.overview.tidy(oldest=NOW + 1) == 24

    assert sharded.overview.size() == 1
    assert listed(sharded, 5) == [kept]
    assert at_risk(sharded) == []
    assert sharded.overview.tidy(oldest=NOW + 1) == 0


def test_what_an_open_job_may_owe_is_kept_however_old(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)

    assert ledger.overview.tidy(oldest=NOW + 1_000_000) == 0

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_an_attempt_whose_job_cannot_have_expired_yet_is_not_looked_at(
    ledger: Ledger, redis: Redis
) -> None:
    expire(redis, unconfirmed(ledger).job.id)

    assert ledger.overview.tidy(oldest=NOW) == 1, "the entry in the index of jobs"

    assert len(at_risk(ledger)) == 1


def test_one_call_forgets_any_number_but_looks_at_little_while_nothing_expired(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 3)
    ids = sorted(kit.create(ledger) for _ in range(17))
    expire(redis, *ids[:10], ids[14])

    assert ledger.overview.tidy(oldest=NOW) == 10
    assert ledger.overview.tidy(oldest=NOW) == 0, "one in the midst waits for its turn"
    assert ledger.overview.size() == 7


def test_a_call_with_nothing_to_forget_is_one_script_a_shard(wire: Wire) -> None:
    ledger = Ledger(lambda: cast(Redis, wire), shards=3)
    kit.create(ledger)
    wire.calls.clear()

    ledger.overview.tidy(oldest=NOW)

    assert len(wire.calls) == 3


def test_one_call_ends_however_much_has_expired(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 2)
    monkeypatch.setattr(overview, "MAX_TIDY_ROUNDS", 3)
    expire(redis, *[kit.create(ledger) for _ in range(10)])

    assert ledger.overview.tidy(oldest=NOW) == 6


# Notifications of jobs that expired --------------------------------------------------------


def test_notifications_of_expired_jobs_are_forgotten_in_every_shard(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=3)
    ids = [dead(ledger) for _ in range(12)]
    expire(redis, *ids[2:])

    assert ledger.overview.tidy(oldest=NOW + 1) == 20, "of the index, and given up"

    assert {found.job_id for found in ledger.follow_ups.dead(99)[1]} == set(ids[:2])
    assert ledger.overview.tidy(oldest=NOW + 1) == 0


def test_a_notification_whose_job_cannot_have_expired_yet_is_not_looked_at(
    ledger: Ledger, redis: Redis
) -> None:
    expire(redis, dead(ledger))

    assert ledger.overview.tidy(oldest=NOW) == 1, "the entry in the index of jobs"
    assert ledger.follow_ups.dead(9)[0] == 1
    assert ledger.overview.tidy(oldest=NOW + 1) == 1
    assert ledger.follow_ups.dead(9)[0] == 0


def test_one_call_tidies_any_number_of_notifications(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 3)
    gone = {f"{keys.new_job_id(0)}": NOW for _ in range(10)}
    mapping: Any = gone
    redis.zadd(keys.dead(0), mapping)

    assert ledger.overview.tidy(oldest=NOW + 1) == 10
    assert ledger.follow_ups.dead(9)[0] == 0
