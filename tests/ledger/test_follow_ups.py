"""What follows from an outcome: images are archived and the caller is told, each at its pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import (
    DEFAULT_LINK_LIFETIME_MS,
    FOLLOW_UPS,
    FollowUp,
    FollowUpStatus,
    Image,
    JobRequest,
    Outcome,
    SettledBy,
    Status,
    Step,
)
from orchestrator.ledger import Ledger, Settlement, follow_ups, keys
from tests.ledger import kit
from tests.ledger.kit import (
    DAY,
    FAILURE,
    NOTIFYING,
    NOW,
    REQUEST,
    SUCCESS,
)
from tests.ledger.test_follow_leases import follow_up, lives, taken

PENDING = FollowUpStatus.PENDING
WAYS: dict[str, JobRequest] = {
    "url": replace(REQUEST, notify_url="https://hooks.example/jobs"),
    "task": replace(REQUEST, notify_task="shop.orders.done", notify_queue="shop"),
    "stream": replace(REQUEST, notify_stream="orders"),
}
# What follows ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_caller_that_wants_to_be_told_is_waiting_until_there_is_an_outcome(
    ledger: Ledger, redis: Redis, way: str
) -> None:
    job_id = kit.create(ledger, WAYS[way])

    assert kit.job(ledger, job_id).notification == FollowUp(FollowUpStatus.WAITING)
    assert kit.job(ledger, job_id).archive is None
    assert kit.follow_look(redis, job_id, Step.NOTIFY) is None
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("request_", [REQUEST, replace(REQUEST, notify_queue="shop")])
def test_a_caller_that_names_no_way_is_not_told(ledger: Ledger, request_: JobRequest) -> None:
    job_id = kit.ended(ledger, FAILURE, request_)

    assert kit.job(ledger, job_id).notification is None
    assert kit.job(ledger, job_id).archive is None


def test_both_follow_from_a_success_at_once(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.ended(ledger, now=NOW + 5)

    due = FollowUp(PENDING, since=NOW + 5, due_at=NOW + 5)
    assert (kit.job(ledger, job_id).archive, kit.job(ledger, job_id).notification) == (due, due)
    assert {kit.follow_look(redis, job_id, step) for step in FOLLOW_UPS} == {NOW + 5}
    assert lives(redis, job_id) == {None}
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("outcome", [FAILURE, Outcome(Status.CANCELLED, error=FAILURE.error)])
def test_nothing_is_archived_of_a_job_without_images(
    ledger: Ledger, redis: Redis, outcome: Outcome
) -> None:
    job_id = kit.ended(ledger, outcome)

    job = kit.job(ledger, job_id)
    assert (job.archive, job.notification) == (None, FollowUp(PENDING, since=NOW, due_at=NOW))
    assert taken(ledger, job_id, Step.ARCHIVE, NOW) is None
    kit.invariant(redis, job_id)


def test_a_caller_is_told_that_its_job_was_called_off(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger, NOTIFYING)
    ledger.cancel(job_id, now=NOW + 3)

    assert follow_up(ledger, job_id, Step.NOTIFY) == FollowUp(PENDING, NOW + 3, due_at=NOW + 3)
    assert lives(redis, job_id) == {None}
    kit.invariant(redis, job_id)


LINKS: dict[str, tuple[tuple[int | None, ...], int]] = {
    "one": ((NOW + DAY,), NOW + DAY),
    "the first to die": ((NOW + DAY, NOW + 7, NOW + 2 * DAY), NOW + 7),
    "not said": ((None,), NOW + DEFAULT_LINK_LIFETIME_MS),
    "not said of one": ((NOW + 3 * DEFAULT_LINK_LIFETIME_MS, None), NOW + DEFAULT_LINK_LIFETIME_MS),
    "none": ((), NOW),
}


@pytest.mark.parametrize("links", LINKS)
def test_the_first_link_to_die_says_how_urgent_an_archive_is(
    ledger: Ledger, redis: Redis, links: str
) -> None:
    deaths, expected = LINKS[links]
    images = tuple(Image("https://images.example/0.png", death) for death in deaths)

    job_id = kit.ended(ledger, Outcome.succeeded(images))

    assert redis.zscore(keys.expiring(0), job_id) == expected


# The steps that are due ----------------------------------------------------------------------

Settle = Callable[[Ledger, str], Settlement]


def by_callback(outcome: Outcome) -> Settle:
    def settle(ledger: Ledger, job_id: str) -> Settlement:
        kit.claim(ledger, job_id)
        return ledger.settle_attempt(job_id, 1, "task-1", outcome, now=NOW)

    return settle


def by_worker(ledger: Ledger, job_id: str) -> Settlement:
    return ledger.settle(kit.claim(ledger, job_id), FAILURE, SettledBy.SUBMIT, now=NOW)


SETTLED: list[tuple[str, Settle, JobRequest, list[Step]]] = [
    ("a success that is told", by_callback(SUCCESS), NOTIFYING, [Step.ARCHIVE, Step.NOTIFY]),
    ("a success", by_callback(SUCCESS), REQUEST, [Step.ARCHIVE]),
    ("a failure that is told", by_callback(FAILURE), NOTIFYING, [Step.NOTIFY]),
    ("a worker's failure", by_worker, NOTIFYING, [Step.NOTIFY]),
    ("a failure", by_callback(FAILURE), REQUEST, []),
    ("called off and told", lambda x, i: x.cancel(i, now=NOW), NOTIFYING, [Step.NOTIFY]),
    ("called off", lambda x, i: x.cancel(i, now=NOW), REQUEST, []),
]


@pytest.mark.parametrize(("settle", "request_", "follows"), [case[1:] for case in SETTLED],
                         ids=[case[0] for case in SETTLED])  # fmt: skip
def test_a_settlement_names_the_due_steps_once(
    ledger: Ledger, settle: Settle, request_: JobRequest, follows: list[Step]
) -> None:
    job_id = kit.create(ledger, request_)

    first = settle(ledger, job_id)
    again = ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    cancelled = ledger.cancel(job_id, now=NOW)

    assert list(first.due) == follows
    assert all(isinstance(step, Step) for step in first.due)
    assert (again.due, cancelled.due) == ((), ())


# On a stream -------------------------------------------------------------------------------


def test_callers_on_the_same_redis_read_a_stream(ledger: Ledger, redis: Redis) -> None:
    ledger.follow_ups.publish("orders", {"job_id": "job_a", "body": '{"status":"succeeded"}'})
    ledger.follow_ups.publish("orders", {"job_id": "job_b", "body": "{}"})
    ledger.follow_ups.publish("other", {"job_id": "job_c", "body": "{}"})

    entries: Any = redis.xrange("{orch:0}:stream:orders")

    assert [fields for _, fields in entries] == [
        {"job_id": "job_a", "body": '{"status":"succeeded"}'},
        {"job_id": "job_b", "body": "{}"},
    ]


def test_a_stream_keeps_the_newest(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_ups, "STREAM_ENTRIES", 50)

    for number in range(300):
        ledger.follow_ups.publish("orders", {"number": str(number)})

    entries: Any = redis.xrange(keys.stream("orders"))
    found = [int(fields["number"]) for _, fields in entries]
    assert 50 <= len(found) <= 150, "whole nodes of 100 are trimmed"
    assert found == list(range(300 - len(found), 300))
