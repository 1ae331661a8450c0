"""Removing the entries of expired jobs."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis import Redis

from orchestrator.ledger import Ledger, identifiers, keys, overview
from orchestrator.ledger.overview import Unconfirmed
from tests.ledger import kit
from tests.ledger.kit import NOW
from tests.ledger.recording import RecordingClient
from tests.ledger.test_forget import dead
from tests.ledger.test_overview import at_risk, expire, unconfirmed


def test_entries_of_expired_jobs_are_removed_in_every_shard(sharded: Ledger, redis: Redis) -> None:
    kept, expired = kit.create(sharded), [unconfirmed(sharded).job.id for _ in range(12)]
    expire(redis, *expired)

    assert sharded.overview.tidy(oldest=NOW + 1) == 24

    assert sharded.overview.size() == 1
    assert sharded.overview.newest(99, below=identifiers.LAST_ID) == [kept]
    assert at_risk(sharded) == []
    assert sharded.overview.tidy(oldest=NOW + 1) == 0


def test_an_unconfirmed_attempt_of_an_open_job_is_kept_at_any_age(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)

    assert ledger.overview.tidy(oldest=NOW + 1_000_000) == 0

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_an_attempt_of_a_job_that_cannot_have_expired_is_skipped(
    ledger: Ledger, redis: Redis
) -> None:
    expire(redis, unconfirmed(ledger).job.id)

    assert ledger.overview.tidy(oldest=NOW) == 1, "the entry in the index of jobs"

    assert len(at_risk(ledger)) == 1


def test_one_call_removes_any_number_but_stops_at_a_batch_without_expired_jobs(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 3)
    ids = sorted(kit.create(ledger) for _ in range(17))
    expire(redis, *ids[:10], ids[14])

    assert ledger.overview.tidy(oldest=NOW) == 10
    assert ledger.overview.tidy(oldest=NOW) == 0, (
        "an expired job behind existing ones is removed later"
    )
    assert ledger.overview.size() == 7


def test_a_call_without_expired_jobs_is_one_script_per_shard(recorder: RecordingClient) -> None:
    ledger = Ledger(lambda: cast(Redis, recorder), shards=3)
    kit.create(ledger)
    recorder.calls.clear()

    ledger.overview.tidy(oldest=NOW)

    assert len(recorder.calls) == 3


def test_one_call_removes_a_limited_number(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 2)
    monkeypatch.setattr(overview, "MAX_TIDY_ROUNDS", 3)
    expire(redis, *[kit.create(ledger) for _ in range(10)])

    assert ledger.overview.tidy(oldest=NOW) == 6


# Failed notifications -----------------------------------------------------------------------


def test_failed_notifications_of_expired_jobs_are_removed_in_every_shard(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=3)
    ids = [dead(ledger) for _ in range(12)]
    expire(redis, *ids[2:])

    assert ledger.overview.tidy(oldest=NOW + 1) == 20, (
        "the entries in the index, and the failed notifications"
    )

    assert {entry.job_id for entry in ledger.follow_ups.dead(99)[1]} == set(ids[:2])
    assert ledger.overview.tidy(oldest=NOW + 1) == 0


def test_a_failed_notification_of_a_job_that_cannot_have_expired_is_skipped(
    ledger: Ledger, redis: Redis
) -> None:
    expire(redis, dead(ledger))

    assert ledger.overview.tidy(oldest=NOW) == 1, "the entry in the index of jobs"
    assert ledger.follow_ups.dead(9)[0] == 1
    assert ledger.overview.tidy(oldest=NOW + 1) == 1
    assert ledger.follow_ups.dead(9)[0] == 0


def test_one_call_removes_any_number_of_failed_notifications(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "TIDY_ENTRIES", 3)
    entries: Any = {identifiers.new_job_id(0, NOW): NOW for _ in range(10)}
    redis.zadd(keys.dead(0), entries)

    assert ledger.overview.tidy(oldest=NOW + 1) == 10
    assert ledger.follow_ups.dead(9)[0] == 0
