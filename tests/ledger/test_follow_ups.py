"""The follow-ups of an outcome: the archive of the images, and the notification of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import (
    DEFAULT_LINK_LIFETIME_MS,
    OUTCOME_STEPS,
    FollowUp,
    FollowUpStatus,
    Image,
    Outcome,
    SettledBy,
    Status,
    Step,
)
from orchestrator.jobs.request import JobRequest
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
from tests.ledger.test_follow_leases import follow_up, try_claim

PENDING = FollowUpStatus.PENDING
#: Requests with each kind of notification.
TARGETS: dict[str, JobRequest] = {
    "url": replace(REQUEST, notify_url="https://hooks.example/jobs"),
    "task": replace(REQUEST, notify_task="shop.orders.done", notify_queue="shop"),
    "stream": replace(REQUEST, notify_stream="orders"),
}

# The follow-ups of each outcome ----------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_notification_waits_for_the_outcome(ledger: Ledger, redis: Redis, target: str) -> None:
    job_id = kit.create(ledger, TARGETS[target])

    assert kit.job(ledger, job_id).notification == FollowUp(FollowUpStatus.WAITING)
    assert kit.job(ledger, job_id).archive is None
    assert kit.follow_up_due_at(redis, job_id, Step.NOTIFY) is None
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("request_", [REQUEST, replace(REQUEST, notify_queue="shop")])
def test_a_request_without_a_target_has_no_notification(
    ledger: Ledger, request_: JobRequest
) -> None:
    job_id = kit.settled(ledger, FAILURE, request_)

    assert kit.job(ledger, job_id).notification is None
    assert kit.job(ledger, job_id).archive is None


def test_a_success_makes_both_follow_ups_due_at_once(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger, now=NOW + 5)

    due = FollowUp(PENDING, since=NOW + 5, due_at=NOW + 5)
    assert (kit.job(ledger, job_id).archive, kit.job(ledger, job_id).notification) == (due, due)
    assert {kit.follow_up_due_at(redis, job_id, step) for step in OUTCOME_STEPS} == {NOW + 5}
    assert kit.job_ttls(redis, job_id) == {None}
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("outcome", [FAILURE, Outcome(Status.CANCELLED, error=FAILURE.error)])
def test_a_job_without_images_has_no_archive(
    ledger: Ledger, redis: Redis, outcome: Outcome
) -> None:
    job_id = kit.settled(ledger, outcome)

    job = kit.job(ledger, job_id)
    assert (job.archive, job.notification) == (None, FollowUp(PENDING, since=NOW, due_at=NOW))
    assert try_claim(ledger, job_id, Step.ARCHIVE, NOW) is None
    kit.check_job(redis, job_id)


def test_a_cancelled_job_has_a_notification(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger, NOTIFYING)
    ledger.cancel(job_id, now=NOW + 3)

    assert follow_up(ledger, job_id, Step.NOTIFY) == FollowUp(PENDING, NOW + 3, due_at=NOW + 3)
    assert kit.job_ttls(redis, job_id) == {None}
    kit.check_job(redis, job_id)


LINKS: dict[str, tuple[tuple[int | None, ...], int]] = {
    "one": ((NOW + DAY,), NOW + DAY),
    "the first to expire": ((NOW + DAY, NOW + 7, NOW + 2 * DAY), NOW + 7),
    "unknown": ((None,), NOW + DEFAULT_LINK_LIFETIME_MS),
    "one unknown": ((NOW + 3 * DEFAULT_LINK_LIFETIME_MS, None), NOW + DEFAULT_LINK_LIFETIME_MS),
    "no image": ((), NOW),
}


@pytest.mark.parametrize("links", LINKS)
def test_the_first_link_expiry_orders_the_archives(
    ledger: Ledger, redis: Redis, links: str
) -> None:
    expiries, expected = LINKS[links]
    images = tuple(Image("https://images.example/0.png", expiry) for expiry in expiries)

    job_id = kit.settled(ledger, Outcome.succeeded(images))

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
    ("success, notified", by_callback(SUCCESS), NOTIFYING, [Step.ARCHIVE, Step.NOTIFY]),
    ("success", by_callback(SUCCESS), REQUEST, [Step.ARCHIVE]),
    ("failure, notified", by_callback(FAILURE), NOTIFYING, [Step.NOTIFY]),
    ("failure of a worker, notified", by_worker, NOTIFYING, [Step.NOTIFY]),
    ("failure", by_callback(FAILURE), REQUEST, []),
    ("cancelled, notified", lambda x, i: x.cancel(i, now=NOW), NOTIFYING, [Step.NOTIFY]),
    ("cancelled", lambda x, i: x.cancel(i, now=NOW), REQUEST, []),
]


@pytest.mark.parametrize(("settle", "request_", "follows"), [case[1:] for case in SETTLED],
                         ids=[case[0] for case in SETTLED])  # fmt: skip
def test_a_settlement_names_the_due_steps_once(
    ledger: Ledger, settle: Settle, request_: JobRequest, follows: list[Step]
) -> None:
    job_id = kit.create(ledger, request_)

    first = settle(ledger, job_id)
    again = ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    cancelled = ledger.cancel(job_id, now=NOW)

    assert list(first.due) == follows
    assert all(isinstance(step, Step) for step in first.due)
    assert (again.due, cancelled.due) == ((), ())


# Streams -----------------------------------------------------------------------------------


def test_a_notification_is_an_entry_of_a_stream(ledger: Ledger, redis: Redis) -> None:
    ledger.follow_ups.publish("orders", {"job_id": "job_a", "body": '{"status":"succeeded"}'})
    ledger.follow_ups.publish("orders", {"job_id": "job_b", "body": "{}"})
    ledger.follow_ups.publish("other", {"job_id": "job_c", "body": "{}"})

    entries: Any = redis.xrange("{orch:0}:stream:orders")

    assert [fields for _, fields in entries] == [
        {"job_id": "job_a", "body": '{"status":"succeeded"}'},
        {"job_id": "job_b", "body": "{}"},
    ]


def test_a_stream_keeps_the_newest_entries(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_ups, "STREAM_ENTRIES", 50)

    for number in range(300):
        ledger.follow_ups.publish("orders", {"number": str(number)})

    entries: Any = redis.xrange(keys.stream("orders"))
    numbers = [int(fields["number"]) for _, fields in entries]
    assert 50 <= len(numbers) <= 150, "Redis removes whole nodes of 100 entries"
    assert numbers == list(range(300 - len(numbers), 300))
