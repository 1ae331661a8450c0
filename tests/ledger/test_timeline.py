"""The timeline of a job: its events in order, up to a limit."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from orchestrator.jobs.model import SettledBy, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from orchestrator.ledger.script import load
from tests.ledger import kit
from tests.ledger.kit import NEXT_DUE, NOW, SUCCESS

MATCH = re.search(r"local MAX_EVENTS = (\d+)", load("create").source)
assert MATCH
#: The limit in the scripts.
MAX_EVENTS = int(MATCH[1])


def mismatch(ledger: Ledger, job_id: str) -> None:
    ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW)


@pytest.fixture
def full(ledger: Ledger) -> str:
    """Create a running job with a full timeline. Return its id."""
    job_id = kit.running(ledger)
    for _ in range(MAX_EVENTS - 3):
        mismatch(ledger, job_id)
    return job_id


def test_the_events_are_in_order(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.requeue(ledger, lease, due_at=NOW + 10)
    lease = kit.claim(ledger, lease.job.id, now=NOW + 20)
    kit.unconfirmed(ledger, lease, due_at=NOW + 30)
    ledger.accepted(lease.job.id, 2, "task-2", now=NOW + 40, due_at=NEXT_DUE)
    lease = kit.claim(ledger, lease.job.id, Step.POLL, now=NEXT_DUE)
    kit.defer(ledger, lease)
    lease = kit.claim(ledger, lease.job.id, Step.POLL, now=NEXT_DUE)
    ledger.settle(lease, SUCCESS, SettledBy.POLL, now=NEXT_DUE + 50)

    events = [(e.at, e.name, e.detail) for e in ledger.events(lease.job.id)]

    assert events == [
        (NOW, "created", {}),
        (NOW, "submitting", {"attempt": 1}),
        (NOW, "deferred", {"attempt": 1, "code": "rate_limited"}),
        (NOW + 20, "submitting", {"attempt": 2}),
        (NOW, "unconfirmed", {"attempt": 2, "reason": "no answer"}),
        (NOW + 40, "accepted", {"attempt": 2, "task_id": "task-2"}),
        (NOW, "polled", {"state": "handling"}),
        (NEXT_DUE + 50, "settled", {"status": "succeeded", "by": "poll", "attempt": 2}),
    ]


def test_text_of_the_provider_is_stored_unchanged(ledger: Ledger) -> None:
    lease, text = kit.submitting(ledger), 'a "no"\nwith two  spaces \\ and 🟥'

    ledger.unconfirmed(lease, now=NOW, due_at=NEXT_DUE, tries=1, reason=text)

    assert ledger.events(lease.job.id)[-1].detail == {"attempt": 1, "reason": text}


def test_events_over_the_limit_are_counted_and_not_stored(
    ledger: Ledger, redis: Redis, full: str
) -> None:
    assert len(ledger.events(full)) == MAX_EVENTS
    assert "omitted" not in kit.fields(redis, full)
    before = ledger.events(full)

    for _ in range(3):
        mismatch(ledger, full)

    assert ledger.events(full) == before
    assert kit.fields(redis, full)["omitted"] == "3"


def test_the_settlement_is_listed_even_when_the_timeline_is_full(
    ledger: Ledger, redis: Redis, full: str
) -> None:
    mismatch(ledger, full)

    assert ledger.settle_attempt(full, 1, "task-1", SUCCESS, now=NOW).result is Result.SETTLED

    events = ledger.events(full)
    assert len(events) == MAX_EVENTS + 1
    assert events[-1].name == "settled"
    for _ in range(2):
        ledger.settle_attempt(full, 1, "task-1", SUCCESS, now=NOW)
    assert ledger.events(full) == events, "later events are only counted"
    assert kit.fields(redis, full)["omitted"] == "3"
    assert kit.job(ledger, full).status is Status.SUCCEEDED
    kit.check_job(redis, full)


def test_events_of_follow_ups_over_the_limit_are_counted_and_not_stored(
    ledger: Ledger, redis: Redis, full: str
) -> None:
    ledger.settle_attempt(full, 1, "task-1", SUCCESS, now=NOW)
    events = ledger.events(full)

    kit.retry_follow_up(
        ledger, kit.claim_follow_up(ledger, full, Step.ARCHIVE), Step.ARCHIVE, due_at=NOW
    )
    kit.finish_follow_up(ledger, full, Step.ARCHIVE)

    assert ledger.events(full) == events
    assert kit.fields(redis, full)["omitted"] == "2"
    assert ledger.overview.counts()["archive_done"] == 1
    kit.check_job(redis, full)


def test_an_expired_job_gets_no_new_timeline(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    redis.delete(keys.job(job_id), keys.events(job_id))

    mismatch(ledger, job_id)

    assert ledger.events(job_id) == []
    assert not redis.exists(keys.events(job_id))
