"""Telling a caller again, by hand: from the first try on, whatever came of the tries before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUp, FollowUpStatus, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import FAILURE, LOOK, NOTIFYING, NOW, REQUEST

ENDED = [FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.GONE]


def again(ledger: Ledger, job_id: str, now: int = LOOK) -> Result:
    return ledger.follow_ups.notify_again(job_id, now=now)


def notification(ledger: Ledger, job_id: str) -> FollowUp:
    found = kit.job(ledger, job_id).notification
    assert found
    return found


@pytest.mark.parametrize("end", ENDED)
def test_a_caller_is_told_again_from_the_first_try_on(
    ledger: Ledger, redis: Redis, end: FollowUpStatus
) -> None:
    job_id = kit.followed(ledger, kit.ended(ledger, FAILURE), Step.NOTIFY, end)
    before = notification(ledger, job_id)

    assert again(ledger, job_id) is Result.RECORDED

    pending = replace(before, status=FollowUpStatus.PENDING, since=LOOK, tries=0, due_at=LOOK)
    assert notification(ledger, job_id) == pending
    assert kit.follow_look(redis, job_id, Step.NOTIFY) == LOOK
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name, last.detail) == (LOOK, "notify_again", {})
    assert redis.zscore(keys.dead(0), job_id) is None
    kit.invariant(redis, job_id)
    kit.followed(ledger, job_id, Step.NOTIFY, now=LOOK)
    kit.invariant(redis, job_id)


def test_the_job_is_kept_until_its_caller_was_told_again(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.quiet(ledger)
    both = (keys.job(job_id), keys.events(job_id))
    assert None not in {kit.lifetime(redis, key) for key in both}

    again(ledger, job_id)
    assert {kit.lifetime(redis, key) for key in both} == {None}
    kit.followed(ledger, job_id, Step.NOTIFY, now=LOOK)

    assert None not in {kit.lifetime(redis, key) for key in both}


def test_a_notification_in_back_off_is_due_at_once(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.ended(ledger)
    kit.later(ledger, kit.follow(ledger, job_id, Step.NOTIFY), Step.NOTIFY, due_at=LOOK)

    assert again(ledger, job_id, NOW + 1) is Result.RECORDED

    assert kit.follow_look(redis, job_id, Step.NOTIFY) == NOW + 1
    assert notification(ledger, job_id).tries == 0
    assert kit.job(ledger, job_id).archive == FollowUp(FollowUpStatus.PENDING, NOW, due_at=NOW)
    kit.invariant(redis, job_id)


def test_a_caller_that_is_being_told_is_not_told_twice(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.ended(ledger)
    lease = kit.follow(ledger, job_id, Step.NOTIFY)
    before, events = kit.everything(redis), ledger.events(job_id)

    assert again(ledger, job_id, NOW) is Result.RECORDED

    assert (kit.everything(redis), ledger.events(job_id)) == (before, events)
    assert kit.done(ledger, lease, Step.NOTIFY) is Result.RECORDED


def test_a_worker_of_before_may_not_record_what_came_of_the_tries_since(ledger: Ledger) -> None:
    job_id = kit.ended(ledger)
    lease = kit.follow(ledger, job_id, Step.NOTIFY)
    kit.done(ledger, lease, Step.NOTIFY, FollowUpStatus.DEAD)
    again(ledger, job_id)

    assert kit.done(ledger, lease, Step.NOTIFY) is Result.STALE
    assert notification(ledger, job_id).status is FollowUpStatus.PENDING


def test_a_job_without_an_outcome_has_nothing_to_tell(ledger: Ledger, redis: Redis) -> None:
    for job_id in (kit.create(ledger, NOTIFYING), kit.create(ledger), kit.running(ledger)):
        before = kit.everything(redis)

        assert again(ledger, job_id) is Result.OPEN

        assert kit.everything(redis) == before
        kit.invariant(redis, job_id)


@pytest.mark.parametrize("outcome", [kit.SUCCESS, FAILURE], ids=lambda outcome: outcome.status)
def test_a_caller_that_named_no_way_cannot_be_told(
    ledger: Ledger, redis: Redis, outcome: Any
) -> None:
    job_id = kit.ended(ledger, outcome, REQUEST)
    before, events = kit.everything(redis), ledger.events(job_id)

    assert again(ledger, job_id) is Result.SILENT

    assert (kit.everything(redis), ledger.events(job_id)) == (before, events)
    kit.invariant(redis, job_id)


def test_nobody_is_told_of_a_job_that_is_gone(ledger: Ledger, redis: Redis) -> None:
    assert again(ledger, keys.new_job_id(0)) is Result.MISSING
    assert kit.every_key(redis) == {}


@pytest.mark.parametrize("text", ["", "nonsense", "job_\n", "*"])
def test_text_that_cannot_be_a_job_id_does_not_reach_redis(text: str) -> None:
    def connect() -> Redis:
        raise AssertionError("Redis was asked")

    assert again(Ledger(connect), text) is Result.MISSING


def test_a_worker_that_was_killed_while_telling_is_not_waited_for(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.ended(ledger, FAILURE)
    dead = ledger.follow_ups.claim(job_id, Step.NOTIFY, now=LOOK, lease_ms=kit.LEASE)
    assert dead

    again(ledger, job_id, now=dead.ends_at)

    assert ledger.events(job_id)[-1].name == "notify_again"
    assert ledger.follow_ups.done(
        dead, Step.NOTIFY, FollowUpStatus.DONE, now=dead.ends_at, tries=1
    ) is (Result.STALE)
