"""Scheduling a notification again, from the first try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUp, FollowUpStatus, Step
from orchestrator.ledger import Ledger, Result, identifiers, keys
from tests.ledger import kit
from tests.ledger.kit import FAILURE, NEXT_DUE, NOTIFYING, NOW, REQUEST

ENDED = [FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.GONE]


def again(ledger: Ledger, job_id: str, now: int = NEXT_DUE) -> Result:
    return ledger.follow_ups.notify_again(job_id, now=now)


def notification(ledger: Ledger, job_id: str) -> FollowUp:
    state = kit.job(ledger, job_id).notification
    assert state
    return state


@pytest.mark.parametrize("end", ENDED)
def test_an_ended_notification_starts_again_from_the_first_try(
    ledger: Ledger, redis: Redis, end: FollowUpStatus
) -> None:
    job_id = kit.finish_follow_up(ledger, kit.settled(ledger, FAILURE), Step.NOTIFY, end)
    before = notification(ledger, job_id)

    assert again(ledger, job_id) is Result.RECORDED

    pending = replace(
        before, status=FollowUpStatus.PENDING, since=NEXT_DUE, tries=0, due_at=NEXT_DUE
    )
    assert notification(ledger, job_id) == pending
    assert kit.follow_up_due_at(redis, job_id, Step.NOTIFY) == NEXT_DUE
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name, last.detail) == (NEXT_DUE, "notify_again", {})
    assert redis.zscore(keys.dead(0), job_id) is None
    kit.check_job(redis, job_id)
    kit.finish_follow_up(ledger, job_id, Step.NOTIFY, now=NEXT_DUE)
    kit.check_job(redis, job_id)


def test_the_job_does_not_expire_until_the_notification_ends(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.finished(ledger)
    assert None not in kit.job_ttls(redis, job_id)

    again(ledger, job_id)
    assert kit.job_ttls(redis, job_id) == {None}
    kit.finish_follow_up(ledger, job_id, Step.NOTIFY, now=NEXT_DUE)

    assert None not in kit.job_ttls(redis, job_id)


def test_a_notification_in_back_off_is_due_at_once(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    kit.retry_follow_up(
        ledger, kit.claim_follow_up(ledger, job_id, Step.NOTIFY), Step.NOTIFY, due_at=NEXT_DUE
    )

    assert again(ledger, job_id, NOW + 1) is Result.RECORDED

    assert kit.follow_up_due_at(redis, job_id, Step.NOTIFY) == NOW + 1
    assert notification(ledger, job_id).tries == 0
    assert kit.job(ledger, job_id).archive == FollowUp(FollowUpStatus.PENDING, NOW, due_at=NOW)
    kit.check_job(redis, job_id)


def test_a_notification_that_is_being_sent_is_not_sent_twice(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)
    before, events = kit.state(redis), ledger.events(job_id)

    assert again(ledger, job_id, NOW) is Result.RECORDED

    assert (kit.state(redis), ledger.events(job_id)) == (before, events)
    assert kit.end_follow_up(ledger, lease, Step.NOTIFY) is Result.RECORDED


def test_an_earlier_lease_is_stale(ledger: Ledger) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)
    kit.end_follow_up(ledger, lease, Step.NOTIFY, FollowUpStatus.DEAD)
    again(ledger, job_id)

    assert kit.end_follow_up(ledger, lease, Step.NOTIFY) is Result.STALE
    assert notification(ledger, job_id).status is FollowUpStatus.PENDING


def test_an_open_job_has_no_notification_to_send(ledger: Ledger, redis: Redis) -> None:
    for job_id in (kit.create(ledger, NOTIFYING), kit.create(ledger), kit.running(ledger)):
        before = kit.state(redis)

        assert again(ledger, job_id) is Result.OPEN

        assert kit.state(redis) == before
        kit.check_job(redis, job_id)


@pytest.mark.parametrize("outcome", [kit.SUCCESS, FAILURE], ids=lambda outcome: outcome.status)
def test_a_request_without_a_notification_is_silent(
    ledger: Ledger, redis: Redis, outcome: Any
) -> None:
    job_id = kit.settled(ledger, outcome, REQUEST)
    before, events = kit.state(redis), ledger.events(job_id)

    assert again(ledger, job_id) is Result.SILENT

    assert (kit.state(redis), ledger.events(job_id)) == (before, events)
    kit.check_job(redis, job_id)


def test_an_unknown_job_is_missing(ledger: Ledger, redis: Redis) -> None:
    assert again(ledger, identifiers.new_job_id(0, NOW)) is Result.MISSING
    assert kit.every_key(redis) == {}


@pytest.mark.parametrize("text", ["", "nonsense", "job_\n", "*"])
def test_text_that_is_no_job_id_sends_no_command(text: str) -> None:
    def connect() -> Redis:
        raise AssertionError("a command was sent")

    assert again(Ledger(connect), text) is Result.MISSING


def test_a_notification_with_an_expired_lease_is_scheduled_again(ledger: Ledger) -> None:
    job_id = kit.settled(ledger, FAILURE)
    dead = ledger.follow_ups.claim(job_id, Step.NOTIFY, now=NEXT_DUE, lease_ms=kit.LEASE)
    assert dead

    again(ledger, job_id, now=dead.ends_at)

    assert ledger.events(job_id)[-1].name == "notify_again"
    assert ledger.follow_ups.done(
        dead, Step.NOTIFY, FollowUpStatus.DONE, now=dead.ends_at, tries=1
    ) is (Result.STALE)
