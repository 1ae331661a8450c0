"""Workers at what follows from an outcome: they take it, put it off, and bring it to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUp, FollowUpStatus, Image, Job, Outcome, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import (
    COPIED,
    COPY,
    DAY,
    DEADLINE,
    FAILURE,
    LEASE,
    LOOK,
    NOTIFYING,
    NOW,
    REQUEST,
    RETENTION,
    SUCCESS,
    Wire,
)

PENDING = FollowUpStatus.PENDING
#: The fields that tell of a follow-up: what a move on one of them may change.
PARTS = ("", ".since", ".tries", ".tried", ".next", ".error", ".lease")
FIELDS = {f"{step}{part}" for step in FOLLOW_UPS for part in PARTS}


def told(job: Job, step: Step) -> FollowUp | None:
    return job.archive if step is Step.ARCHIVE else job.notification


def follow_up(ledger: Ledger, job_id: str, step: Step) -> FollowUp:
    found = told(kit.job(ledger, job_id), step)
    assert found
    return found


def other(step: Step) -> Step:
    return Step.NOTIFY if step is Step.ARCHIVE else Step.ARCHIVE


def taken(ledger: Ledger, job_id: str, step: Step, now: int) -> object:
    return ledger.follow_ups.claim(job_id, step, now=now, lease_ms=LEASE)


def lives(redis: Redis, job_id: str) -> set[int | None]:
    return {kit.lifetime(redis, key(job_id)) for key in (keys.job, keys.events)}


# Claiming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_follow_up_is_taken_when_it_is_due(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.ended(ledger)
    events = ledger.events(job_id)

    assert taken(ledger, job_id, step, NOW - 1) is None
    lease = kit.follow(ledger, job_id, step, now=NOW + 9)

    assert lease.job == kit.job(ledger, job_id)
    assert lease.ends_at == NOW + 9 + LEASE
    assert kit.follow_look(redis, job_id, step) == lease.ends_at
    assert kit.fields(redis, job_id)[f"{step}.lease"] == lease.token
    assert "lease" not in kit.fields(redis, job_id)
    assert ledger.events(job_id) == events, "a try is listed when it is over"
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_follow_up_is_one_workers_until_its_lease_ends(ledger: Ledger, step: Step) -> None:
    job_id = kit.ended(ledger)
    first = kit.follow(ledger, job_id, step)

    assert taken(ledger, job_id, step, NOW) is None
    assert taken(ledger, job_id, step, first.ends_at - 1) is None
    second = kit.follow(ledger, job_id, step, now=first.ends_at)

    assert second.token != first.token
    assert min(len(first.token), len(second.token)) >= 12


def test_times_of_follow_ups_are_compared_as_numbers(ledger: Ledger) -> None:
    early, late = kit.ended(ledger, now=999), kit.ended(ledger, now=1_000)

    for step in FOLLOW_UPS:
        assert taken(ledger, late, step, 999) is None
        assert taken(ledger, early, step, 1_000)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_one_of_thirty_two_workers_gets_a_follow_up(crowd: Ledger, step: Step) -> None:
    job_id = kit.ended(crowd)

    found = kit.together(32, lambda: taken(crowd, job_id, step, NOW))

    assert len([lease for lease in found if lease]) == 1


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_the_two_follow_ups_do_not_wait_for_each_other(
    ledger: Ledger, redis: Redis, step: Step
) -> None:
    job_id = kit.ended(ledger)
    mine, others = (kit.follow(ledger, job_id, one) for one in (step, other(step)))
    assert mine.token != others.token

    assert kit.done(ledger, mine, step) is Result.RECORDED

    assert follow_up(ledger, job_id, other(step)).status is PENDING
    assert kit.follow_look(redis, job_id, other(step)) == others.ends_at
    assert kit.done(ledger, mine, other(step)) is Result.STALE, "a lease is for one follow-up"
    assert kit.done(ledger, others, other(step)) is Result.RECORDED
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_job_that_is_gone_leaves_nothing_to_follow(
    wired: Ledger, wire: Wire, redis: Redis, step: Step
) -> None:
    job_id, stays = kit.ended(wired), kit.ended(wired)
    lease = kit.follow(wired, job_id, step)
    redis.delete(keys.job(job_id), keys.events(job_id))

    assert taken(wired, job_id, step, NOW) is None
    assert wire.answer == [Result.MISSING]
    assert kit.later(wired, lease, step) is Result.MISSING
    assert kit.done(wired, lease, step) is Result.MISSING

    assert kit.follow_look(redis, job_id, step) is None
    assert redis.zrange(keys.expiring(0), 0, -1) == [stays]
    assert [key for key in kit.every_key(redis) if job_id in key] == []
    kit.invariant(redis, stays)


# Later -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_try_that_failed_plans_another_one(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.ended(ledger)
    lease = kit.follow(ledger, job_id, step)

    result = ledger.follow_ups.later(
        lease, step, now=NOW + 4, due_at=LOOK, tries=3, error="503 from the host"
    )

    assert result is Result.RECORDED
    failed = FollowUp(PENDING, NOW, 3, NOW + 4, LOOK, "503 from the host")
    assert follow_up(ledger, job_id, step) == failed
    assert kit.follow_look(redis, job_id, step) == LOOK
    assert follow_up(ledger, job_id, other(step)) == FollowUp(PENDING, NOW, due_at=NOW)
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name) == (NOW + 4, f"{step}_failed")
    assert last.detail == {"try": 3, "reason": "503 from the host"}
    assert taken(ledger, job_id, step, LOOK - 1) is None
    again = kit.follow(ledger, job_id, step, now=LOOK)
    assert told(again.job, step) == failed
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_look_that_was_put_off_is_no_try(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.ended(ledger)
    kit.later(ledger, kit.follow(ledger, job_id, step), step, due_at=NOW)
    before, events = follow_up(ledger, job_id, step), ledger.events(job_id)
    lease = kit.follow(ledger, job_id, step)

    result = ledger.follow_ups.later(lease, step, now=NOW, due_at=LOOK + 1)

    assert result is Result.RECORDED
    assert follow_up(ledger, job_id, step) == replace(before, due_at=LOOK + 1)
    assert kit.follow_look(redis, job_id, step) == LOOK + 1
    assert ledger.events(job_id) == events
    assert "images" in kit.fields(redis, job_id)
    kit.invariant(redis, job_id)


def test_the_images_are_kept_as_far_as_they_got(ledger: Ledger) -> None:
    links = tuple(Image(f"https://images.example/{n}.png", NOW + DAY) for n in range(2))
    job_id = kit.ended(ledger, Outcome.succeeded(links))
    half = (replace(links[0], copy=COPY), replace(links[1], error="404 from the host"))
    lease = kit.follow(ledger, job_id, Step.ARCHIVE)

    ledger.follow_ups.later(
        lease, Step.ARCHIVE, now=NOW, due_at=LOOK, tries=1, error="404", images=half
    )

    assert kit.job(ledger, job_id).images == half
    again = kit.follow(ledger, job_id, Step.ARCHIVE, now=LOOK)
    assert again.job.images == half
    assert kit.later(ledger, again, Step.ARCHIVE) is Result.RECORDED
    assert kit.job(ledger, job_id).images == half, "none given: they did not change"


# The end -----------------------------------------------------------------------------------


def test_an_archive_is_done_with_a_copy_of_each_image(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.ended(ledger)
    lease = kit.follow(ledger, job_id, Step.ARCHIVE)

    result = ledger.follow_ups.done(
        lease, Step.ARCHIVE, FollowUpStatus.DONE, now=NOW + 8, tries=1, images=COPIED
    )

    assert result is Result.RECORDED
    job = kit.job(ledger, job_id)
    assert (job.images, job.archive) == (COPIED, FollowUp(FollowUpStatus.DONE, NOW, 1, NOW + 8))
    assert redis.zscore(keys.expiring(0), job_id) is None
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name, last.detail) == (NOW + 8, "archive_done", {"try": 1})
    assert ledger.overview.counts()["archive_done"] == 1
    kit.invariant(redis, job_id)


ENDS = [
    (Step.ARCHIVE, FollowUpStatus.DEAD),
    (Step.NOTIFY, FollowUpStatus.DEAD),
    (Step.NOTIFY, FollowUpStatus.GONE),
]


@pytest.mark.parametrize(("step", "end"), ENDS)
def test_a_follow_up_that_is_given_up_says_why(
    ledger: Ledger, redis: Redis, step: Step, end: FollowUpStatus
) -> None:
    job_id = kit.ended(ledger)

    kit.followed(ledger, job_id, step, end, now=NOW + 6)

    assert follow_up(ledger, job_id, step) == FollowUp(
        end, NOW, 2, NOW + 6, None, "410 from the host"
    )
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name) == (NOW + 6, f"{step}_{end}")
    assert last.detail == {"try": 2, "reason": "410 from the host"}
    assert ledger.overview.counts()[f"{step}_{end}"] == 1
    dead = {job_id: NOW + 6} if (step, end) == (Step.NOTIFY, FollowUpStatus.DEAD) else {}
    assert dict(redis.zrange(keys.dead(0), 0, -1, withscores=True)) == dead  # type: ignore[arg-type]
    assert kit.job(ledger, job_id).images == SUCCESS.images
    kit.invariant(redis, job_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_success_after_failures_forgets_why_they_were(ledger: Ledger, step: Step) -> None:
    job_id = kit.ended(ledger)
    kit.later(ledger, kit.follow(ledger, job_id, step), step, due_at=NOW)

    kit.followed(ledger, job_id, step)

    assert follow_up(ledger, job_id, step) == FollowUp(FollowUpStatus.DONE, NOW, 2, NOW)


@pytest.mark.parametrize("last", FOLLOW_UPS)
def test_a_job_expires_after_the_last_of_what_follows(
    ledger: Ledger, redis: Redis, last: Step
) -> None:
    job_id = kit.ended(ledger)

    kit.followed(ledger, job_id, other(last))
    assert lives(redis, job_id) == {None}
    kit.followed(ledger, job_id, last)

    for left in lives(redis, job_id):
        assert RETENTION - 60_000 < (left or 0) <= RETENTION
    kit.invariant(redis, job_id)


@pytest.mark.parametrize(("step", "outcome"), [(Step.ARCHIVE, SUCCESS), (Step.NOTIFY, FAILURE)])
def test_a_job_with_one_follow_up_expires_after_it(
    ledger: Ledger, redis: Redis, step: Step, outcome: Outcome
) -> None:
    job_id = kit.ended(ledger, outcome, REQUEST if step is Step.ARCHIVE else NOTIFYING)
    assert lives(redis, job_id) == {None}

    kit.followed(ledger, job_id, step)

    assert None not in lives(redis, job_id)


@pytest.mark.parametrize("step", FOLLOW_UPS)
@pytest.mark.parametrize("record", [kit.later, kit.done])
def test_a_worker_that_lost_its_lease_changes_nothing(
    ledger: Ledger, redis: Redis, step: Step, record: Any
) -> None:
    job_id = kit.ended(ledger)
    late = kit.follow(ledger, job_id, step)
    holder = kit.follow(ledger, job_id, step, now=late.ends_at)
    before, events = kit.everything(redis), ledger.events(job_id)

    assert record(ledger, late, step) is Result.STALE

    assert (kit.everything(redis), ledger.events(job_id)) == (before, events)
    assert kit.done(ledger, holder, step) is Result.RECORDED
    before, events = kit.everything(redis), ledger.events(job_id)
    for lease in (late, holder):
        assert record(ledger, lease, step) is Result.STALE, "what is done is nobody's"
    assert (kit.everything(redis), ledger.events(job_id)) == (before, events)


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_a_worker_whose_lease_ran_out_may_record_while_nobody_else_took_it(
    ledger: Ledger, step: Step
) -> None:
    lease = kit.follow(ledger, kit.ended(ledger), step)

    assert kit.done(ledger, lease, step, now=lease.ends_at + 1) is Result.RECORDED


@pytest.mark.parametrize("step", FOLLOW_UPS)
def test_what_follows_leaves_the_outcome_alone(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.ended(ledger)
    before, look = kit.fields(redis, job_id), kit.due_at(redis, job_id)

    kit.later(ledger, kit.follow(ledger, job_id, step), step, due_at=NOW)
    kit.followed(ledger, job_id, step, FollowUpStatus.DEAD)
    if step is Step.NOTIFY:
        ledger.follow_ups.notify_again(job_id, now=NOW)

    after = kit.fields(redis, job_id)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed
    assert changed <= FIELDS
    assert kit.due_at(redis, job_id) == look is None


def test_a_callback_that_comes_late_leaves_what_follows_alone(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.ended(ledger)
    lease = kit.follow(ledger, job_id, Step.NOTIFY)
    before = kit.everything(redis)

    for outcome in (SUCCESS, FAILURE):
        ledger.settle_attempt(job_id, 1, f"task-{job_id}", outcome, now=LOOK)
    ledger.cancel(job_id, now=LOOK)

    assert kit.everything(redis) == before
    assert kit.done(ledger, lease, Step.NOTIFY) is Result.RECORDED
    kit.followed(ledger, job_id, Step.ARCHIVE)
    ledger.accepted(job_id, 1, f"task-{job_id}", now=LOOK, due_at=DEADLINE)
    assert None not in lives(redis, job_id)
