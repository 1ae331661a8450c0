"""Leases on follow-ups: claiming a follow-up, planning another try, and ending it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import (
    OUTCOME_STEPS,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    Outcome,
    Step,
)
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import (
    COPIED,
    COPY,
    DAY,
    DEADLINE,
    FAILURE,
    LEASE,
    NEXT_DUE,
    NOTIFYING,
    NOW,
    REQUEST,
    RETENTION,
    SUCCESS,
    TTL_MARGIN,
)
from tests.ledger.recording import RecordingClient

PENDING = FollowUpStatus.PENDING
#: The fields of a follow-up. A transition of a follow-up changes no other field of the job.
SUFFIXES = ("", ".since", ".tries", ".tried", ".next", ".error", ".lease")
FIELDS = {f"{step}{suffix}" for step in OUTCOME_STEPS for suffix in SUFFIXES}


def state_of(job: Job, step: Step) -> FollowUp | None:
    return job.archive if step is Step.ARCHIVE else job.notification


def follow_up(ledger: Ledger, job_id: str, step: Step) -> FollowUp:
    state = state_of(kit.job(ledger, job_id), step)
    assert state
    return state


def other(step: Step) -> Step:
    return Step.NOTIFY if step is Step.ARCHIVE else Step.ARCHIVE


def try_claim(ledger: Ledger, job_id: str, step: Step, now: int) -> object:
    return ledger.follow_ups.claim(job_id, step, now=now, lease_ms=LEASE)


# Claiming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_due_follow_up_is_claimed(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.settled(ledger)
    events = ledger.events(job_id)

    assert try_claim(ledger, job_id, step, NOW - 1) is None
    lease = kit.claim_follow_up(ledger, job_id, step, now=NOW + 9)

    assert lease.job == kit.job(ledger, job_id)
    assert lease.ends_at == NOW + 9 + LEASE
    assert kit.follow_up_due_at(redis, job_id, step) == lease.ends_at
    assert kit.fields(redis, job_id)[f"{step}.lease"] == lease.token
    assert "lease" not in kit.fields(redis, job_id)
    assert ledger.events(job_id) == events, "the timeline lists the end of a try"
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_leased_follow_up_is_claimed_again_when_the_lease_ends(
    ledger: Ledger, step: Step
) -> None:
    job_id = kit.settled(ledger)
    first = kit.claim_follow_up(ledger, job_id, step)

    assert try_claim(ledger, job_id, step, NOW) is None
    assert try_claim(ledger, job_id, step, first.ends_at - 1) is None
    second = kit.claim_follow_up(ledger, job_id, step, now=first.ends_at)

    assert second.token != first.token
    assert min(len(first.token), len(second.token)) >= 12


def test_times_of_follow_ups_are_compared_as_numbers(ledger: Ledger) -> None:
    early, late = kit.settled(ledger, now=999), kit.settled(ledger, now=1_000)

    for step in OUTCOME_STEPS:
        assert try_claim(ledger, late, step, 999) is None
        assert try_claim(ledger, early, step, 1_000)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_one_of_thirty_two_workers_gets_the_lease(shared_ledger: Ledger, step: Step) -> None:
    job_id = kit.settled(shared_ledger)

    leases = kit.in_parallel(32, lambda: try_claim(shared_ledger, job_id, step, NOW))

    assert len([lease for lease in leases if lease]) == 1


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_the_two_follow_ups_are_independent(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.settled(ledger)
    mine, others = (kit.claim_follow_up(ledger, job_id, one) for one in (step, other(step)))
    assert mine.token != others.token

    assert kit.end_follow_up(ledger, mine, step) is Result.RECORDED

    assert follow_up(ledger, job_id, other(step)).status is PENDING
    assert kit.follow_up_due_at(redis, job_id, other(step)) == others.ends_at
    assert kit.end_follow_up(ledger, mine, other(step)) is Result.STALE, (
        "a lease is for one follow-up"
    )
    assert kit.end_follow_up(ledger, others, other(step)) is Result.RECORDED
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_the_entries_of_an_expired_job_are_removed(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis, step: Step
) -> None:
    job_id, other_id = kit.settled(recorded_ledger), kit.settled(recorded_ledger)
    lease = kit.claim_follow_up(recorded_ledger, job_id, step)
    redis.delete(keys.job(job_id), keys.events(job_id))

    assert try_claim(recorded_ledger, job_id, step, NOW) is None
    assert recorder.answer == [Result.MISSING]
    assert kit.retry_follow_up(recorded_ledger, lease, step) is Result.MISSING
    assert kit.end_follow_up(recorded_ledger, lease, step) is Result.MISSING
    for each in OUTCOME_STEPS:
        due = recorded_ledger.follow_ups.due(0, each, now=NOW + LEASE, limit=9)
        assert due == [other_id]

    assert kit.follow_up_due_at(redis, job_id, step) is None
    assert redis.zrange(keys.expiring(0), 0, -1) == [other_id]
    assert kit.keys_of(redis, job_id) == []
    kit.check_job(redis, other_id)


# Later -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_failed_try_plans_another_try(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, step)

    result = ledger.follow_ups.later(
        lease, step, now=NOW + 4, due_at=NEXT_DUE, tries=3, error="503 from the host"
    )

    assert result is Result.RECORDED
    failed = FollowUp(PENDING, NOW, 3, NOW + 4, NEXT_DUE, "503 from the host")
    assert follow_up(ledger, job_id, step) == failed
    assert kit.follow_up_due_at(redis, job_id, step) == NEXT_DUE
    assert follow_up(ledger, job_id, other(step)) == FollowUp(PENDING, NOW, due_at=NOW)
    last = ledger.events(job_id)[-1]
    assert (last.at, last.name) == (NOW + 4, f"{step}_failed")
    assert last.detail == {"try": 3, "reason": "503 from the host"}
    assert try_claim(ledger, job_id, step, NEXT_DUE - 1) is None
    again = kit.claim_follow_up(ledger, job_id, step, now=NEXT_DUE)
    assert state_of(again.job, step) == failed
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_postponed_follow_up_counts_no_try(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.settled(ledger)
    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, job_id, step), step, due_at=NOW)
    before, events = follow_up(ledger, job_id, step), ledger.events(job_id)
    lease = kit.claim_follow_up(ledger, job_id, step)

    result = ledger.follow_ups.later(lease, step, now=NOW, due_at=NEXT_DUE + 1)

    assert result is Result.RECORDED
    assert follow_up(ledger, job_id, step) == replace(before, due_at=NEXT_DUE + 1)
    assert kit.follow_up_due_at(redis, job_id, step) == NEXT_DUE + 1
    assert ledger.events(job_id) == events
    assert "images" in kit.fields(redis, job_id)
    kit.check_job(redis, job_id)


def test_a_failed_try_keeps_the_copies_that_exist(ledger: Ledger) -> None:
    links = tuple(Image(f"https://images.example/{n}.png", NOW + DAY) for n in range(2))
    job_id = kit.settled(ledger, Outcome.succeeded(links))
    images = (replace(links[0], copy=COPY), replace(links[1], error="404 from the host"))
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)

    ledger.follow_ups.later(
        lease, Step.ARCHIVE, now=NOW, due_at=NEXT_DUE, tries=1, error="404", images=images
    )

    assert kit.job(ledger, job_id).images == images
    again = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE, now=NEXT_DUE)
    assert again.job.images == images
    assert kit.retry_follow_up(ledger, again, Step.ARCHIVE) is Result.RECORDED
    assert kit.job(ledger, job_id).images == images, "a call without images changes none"


# The end -----------------------------------------------------------------------------------


def test_a_finished_archive_has_a_copy_of_each_image(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)

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
    kit.check_job(redis, job_id)


ENDS = [
    (Step.ARCHIVE, FollowUpStatus.DEAD),
    (Step.NOTIFY, FollowUpStatus.DEAD),
    (Step.NOTIFY, FollowUpStatus.GONE),
]


@pytest.mark.parametrize(("step", "end"), ENDS)
def test_a_failed_follow_up_has_its_reason(
    ledger: Ledger, redis: Redis, step: Step, end: FollowUpStatus
) -> None:
    job_id = kit.settled(ledger)

    kit.finish_follow_up(ledger, job_id, step, end, now=NOW + 6)

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
    kit.check_job(redis, job_id)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_success_after_failures_removes_their_reason(ledger: Ledger, step: Step) -> None:
    job_id = kit.settled(ledger)
    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, job_id, step), step, due_at=NOW)

    kit.finish_follow_up(ledger, job_id, step)

    assert follow_up(ledger, job_id, step) == FollowUp(FollowUpStatus.DONE, NOW, 2, NOW)


@pytest.mark.parametrize("last", OUTCOME_STEPS)
def test_a_job_expires_after_its_last_follow_up(ledger: Ledger, redis: Redis, last: Step) -> None:
    job_id = kit.settled(ledger)

    kit.finish_follow_up(ledger, job_id, other(last))
    assert kit.job_ttls(redis, job_id) == {None}
    kit.finish_follow_up(ledger, job_id, last)

    for left in kit.job_ttls(redis, job_id):
        assert RETENTION - TTL_MARGIN < (left or 0) <= RETENTION
    kit.check_job(redis, job_id)


@pytest.mark.parametrize(("step", "outcome"), [(Step.ARCHIVE, SUCCESS), (Step.NOTIFY, FAILURE)])
def test_a_job_with_one_follow_up_expires_after_that_one(
    ledger: Ledger, redis: Redis, step: Step, outcome: Outcome
) -> None:
    job_id = kit.settled(ledger, outcome, REQUEST if step is Step.ARCHIVE else NOTIFYING)
    assert kit.job_ttls(redis, job_id) == {None}

    kit.finish_follow_up(ledger, job_id, step)

    assert None not in kit.job_ttls(redis, job_id)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
@pytest.mark.parametrize("record", [kit.retry_follow_up, kit.end_follow_up])
def test_a_worker_without_the_lease_changes_nothing(
    ledger: Ledger, redis: Redis, step: Step, record: Any
) -> None:
    job_id = kit.settled(ledger)
    late = kit.claim_follow_up(ledger, job_id, step)
    holder = kit.claim_follow_up(ledger, job_id, step, now=late.ends_at)
    before, events = kit.state(redis), ledger.events(job_id)

    assert record(ledger, late, step) is Result.STALE

    assert (kit.state(redis), ledger.events(job_id)) == (before, events)
    assert kit.end_follow_up(ledger, holder, step) is Result.RECORDED
    before, events = kit.state(redis), ledger.events(job_id)
    for lease in (late, holder):
        assert record(ledger, lease, step) is Result.STALE, "an ended follow-up has no lease"
    assert (kit.state(redis), ledger.events(job_id)) == (before, events)


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_worker_may_record_after_its_lease_if_no_other_worker_has_claimed(
    ledger: Ledger, step: Step
) -> None:
    lease = kit.claim_follow_up(ledger, kit.settled(ledger), step)

    assert kit.end_follow_up(ledger, lease, step, now=lease.ends_at + 1) is Result.RECORDED


@pytest.mark.parametrize("step", OUTCOME_STEPS)
def test_a_follow_up_does_not_change_the_outcome(ledger: Ledger, redis: Redis, step: Step) -> None:
    job_id = kit.settled(ledger)
    before, due_at = kit.fields(redis, job_id), kit.due_at(redis, job_id)

    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, job_id, step), step, due_at=NOW)
    kit.finish_follow_up(ledger, job_id, step, FollowUpStatus.DEAD)
    if step is Step.NOTIFY:
        ledger.follow_ups.notify_again(job_id, now=NOW)

    after = kit.fields(redis, job_id)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed
    assert changed <= FIELDS
    assert kit.due_at(redis, job_id) == due_at is None


def test_a_late_callback_does_not_change_the_follow_ups(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)
    before = kit.state(redis)

    for outcome in (SUCCESS, FAILURE):
        ledger.settle_attempt(job_id, 1, f"task-{job_id}", outcome, now=NEXT_DUE)
    ledger.cancel(job_id, now=NEXT_DUE)

    assert kit.state(redis) == before
    assert kit.end_follow_up(ledger, lease, Step.NOTIFY) is Result.RECORDED
    kit.finish_follow_up(ledger, job_id, Step.ARCHIVE)
    ledger.accepted(job_id, 1, f"task-{job_id}", now=NEXT_DUE, due_at=DEADLINE)
    assert None not in kit.job_ttls(redis, job_id)
