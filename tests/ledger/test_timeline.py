"""A job's timeline: what happened, in order, and never so much that it hurts."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from orchestrator.jobs.model import SettledBy, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from orchestrator.ledger.script import load
from tests.ledger import kit
from tests.ledger.kit import LOOK, NOW, SUCCESS

FOUND = re.search(r"local MAX_EVENTS = (\d+)", load("create").source)
assert FOUND
MAX_EVENTS = int(FOUND[1])


def mismatch(ledger: Ledger, job_id: str) -> None:
    ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW)


@pytest.fixture
def full(ledger: Ledger) -> str:
    """A running job whose timeline has no place left; its id."""
    job_id = kit.running(ledger)
    for _ in range(MAX_EVENTS - 3):
        mismatch(ledger, job_id)
    return job_id


def test_a_life_is_told_in_order(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.requeue(ledger, lease, due_at=NOW + 10)
    lease = kit.claim(ledger, lease.job.id, now=NOW + 20)
    kit.unconfirmed(ledger, lease, due_at=NOW + 30)
    ledger.accepted(lease.job.id, 2, "task-2", now=NOW + 40, due_at=LOOK)
    lease = kit.claim(ledger, lease.job.id, Step.POLL, now=LOOK)
    kit.defer(ledger, lease)
    lease = kit.claim(ledger, lease.job.id, Step.POLL, now=LOOK)
    ledger.settle(lease, SUCCESS, SettledBy.POLL, now=LOOK + 50)

    told = [(e.at, e.name, e.detail) for e in ledger.events(lease.job.id)]

    assert told == [
        (NOW, "created", {}),
        (NOW, "submitting", {"attempt": 1}),
        (NOW, "deferred", {"attempt": 1, "code": "rate_limited"}),
        (NOW + 20, "submitting", {"attempt": 2}),
        (NOW, "unconfirmed", {"attempt": 2, "reason": "no answer"}),
        (NOW + 40, "accepted", {"attempt": 2, "task_id": "task-2"}),
        (NOW, "polled", {"state": "handling"}),
        (LOOK + 50, "settled", {"status": "succeeded", "by": "poll", "attempt": 2}),
    ]


def test_words_of_the_provider_come_back_as_they_were(ledger: Ledger) -> None:
    lease, words = kit.submitting(ledger), 'a "no"\nwith two  spaces \\ and 🟥'

    ledger.unconfirmed(lease, now=NOW, due_at=LOOK, tries=1, reason=words)

    assert ledger.events(lease.job.id)[-1].detail == {"attempt": 1, "reason": words}


def test_events_over_the_cap_are_counted_and_not_kept(
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
    assert ledger.events(full) == events, "what comes after it is counted only"
    assert kit.fields(redis, full)["omitted"] == "3"
    assert kit.job(ledger, full).status is Status.SUCCEEDED
    kit.invariant(redis, full)


def test_what_follows_is_listed_while_there_is_place_and_counted_after(
    ledger: Ledger, redis: Redis, full: str
) -> None:
    ledger.settle_attempt(full, 1, "task-1", SUCCESS, now=NOW)
    events = ledger.events(full)

    kit.later(ledger, kit.follow(ledger, full, Step.ARCHIVE), Step.ARCHIVE, due_at=NOW)
    kit.followed(ledger, full, Step.ARCHIVE)

    assert ledger.events(full) == events
    assert kit.fields(redis, full)["omitted"] == "2"
    assert ledger.overview.counts()["archive_done"] == 1
    kit.invariant(redis, full)


def test_a_job_that_is_gone_gets_no_timeline_back(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    redis.delete(keys.job(job_id), keys.events(job_id))

    mismatch(ledger, job_id)

    assert ledger.events(job_id) == []
    assert not redis.exists(keys.events(job_id))
