"""A job moves to a fallback only when no attempt of it may have been accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Cost, ErrorCode, JobError, Move, Outcome, Status, Step
from orchestrator.jobs.tenant import Budget, Tenant
from orchestrator.ledger import (
    Departure,
    Lease,
    Ledger,
    Moved,
    ProviderLimits,
    Result,
    Room,
    codec,
    keys,
)
from tests.ledger import kit
from tests.ledger.kit import DAY, DEADLINE, LEASE, MOVING, NEXT_DUE, NOW, REFUSAL, SUCCESS

HALF_TIME = (NOW + DEADLINE) // 2
#: The tenant has a budget at each provider, in another unit.
UNITS = {"hiapi": "credits", "evolink": "points", "uniall": "USD"}
RESERVE = {name: Cost(2, unit, "computed") for name, unit in UNITS.items()}
SHOP = Tenant("shop", daily_budgets={name: Budget(3, unit) for name, unit in UNITS.items()})


def submit(ledger: Ledger, job_id: str, now: int = NOW) -> Any:
    return ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=LEASE)


def create_for_shop(ledger: Ledger) -> str:
    made = ledger.create(
        MOVING, now=NOW, deadline_at=DEADLINE, tenant="shop", limits=SHOP, reserve=RESERVE
    )
    assert made.result is Result.CREATED
    return made.job_id


def spent(redis: Redis) -> dict[str, float]:
    stored: Any = redis.hgetall(keys.spend(0, "shop", NOW // DAY))
    return {name.partition(" ")[0]: float(amount) for name, amount in stored.items()}


def skips(ledger: Ledger, job_id: str) -> list[dict[str, Any]]:
    events = ledger.events(job_id)
    return [dict(event.detail) for event in events if event.name == "fallback_skipped"]


def test_a_refused_job_is_submitted_once_at_each_provider(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger, MOVING)

    moves = [kit.refuse(ledger, kit.claim(ledger, job_id)) for _ in range(3)]

    assert moves == [Moved("evolink"), Moved("uniall"), Result.EXHAUSTED]
    job = kit.job(ledger, job_id)
    assert [job.provider_of(attempt.number) for attempt in job.attempts] == [*UNITS]
    assert (job.provider, job.model, job.request) == ("uniall", "nano", MOVING)
    assert job.moves == (
        Move(NOW, "hiapi", "evolink", REFUSAL.code),
        Move(NOW, "evolink", "uniall", REFUSAL.code),
    )
    assert [redis.zcard(keys.in_flight(0, name)) for name in UNITS] == [0, 0, 1]
    kept = codec.read_job(job_id, codec.fields_of(job))  # as in the history
    assert (kept.provider, kept.moves, kept.attempts) == (job.provider, job.moves, job.attempts)


@pytest.mark.parametrize("reason", ["paused", "circuit_open"])
def test_a_job_leaves_a_held_provider_at_once(ledger: Ledger, reason: str) -> None:
    if reason == "paused":
        ledger.admission.pause("hiapi", by="cli", now=NOW)
    else:
        kit.pause(ledger, Step.SUBMIT)
    job_id = kit.create(ledger, MOVING)

    assert submit(ledger, job_id) == Moved("evolink")

    assert kit.job(ledger, job_id).moves[0].reason == reason
    lease = kit.claim(ledger, job_id)
    assert (lease.job.provider, lease.job.attempt.number) == ("evolink", 1)


def test_a_job_waits_for_a_limit_until_its_half_time(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, limits={"hiapi": ProviderLimits(max_in_flight=1)})
    job_id = kit.create(ledger, MOVING)
    kit.requeue(ledger, kit.claim(ledger, job_id), due_at=NOW)
    kit.submitting(ledger)

    waits = submit(ledger, job_id, HALF_TIME - 1)
    listed = [i for now in (HALF_TIME - 1, HALF_TIME) for i in due_elsewhere(ledger, job_id, now)]
    moved = submit(ledger, job_id, HALF_TIME)

    assert waits.reason == "in_flight_limit"
    assert listed == ["evolink"]
    assert moved == Moved("evolink")


def test_a_busy_provider_is_left_only_for_a_long_wait(ledger: Ledger) -> None:
    busy = JobError(ErrorCode.RATE_LIMITED, "slow down")
    ledger.admission.hold("hiapi", Step.SUBMIT, busy, now=NOW, ends_at=HALF_TIME - 1)
    job_id = kit.create(ledger, MOVING)

    waits = submit(ledger, job_id)
    listed = due_elsewhere(ledger, job_id, NOW)
    ledger.admission.hold("hiapi", Step.SUBMIT, busy, now=NOW, ends_at=HALF_TIME)

    assert (waits.reason, listed) == ("circuit_open", [])
    assert submit(ledger, job_id) == Moved("evolink")


def due_elsewhere(ledger: Ledger, job_id: str, now: int) -> list[str]:
    """Return the provider whose threads a sweep gives the job to, if it is listed."""
    room = Room(dict.fromkeys(UNITS, 5))
    listed = ledger.agenda.due_within(0, now=now, limit=5, room=room)
    return [provider for listed_id, _, provider in listed if listed_id == job_id]


def test_a_sweep_lists_no_more_jobs_than_the_fallbacks_have_places(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, limits={"evolink": ProviderLimits(max_in_flight=1)})
    once = replace(MOVING, fallback=MOVING.fallback[:1])
    for _ in range(3):
        kit.create(ledger, once)
        kit.create(ledger)
    ledger.admission.pause("hiapi", by="cli", now=NOW)

    listed = ledger.agenda.due_within(0, now=NOW, limit=5, room=Room(dict.fromkeys(UNITS, 5)))

    assert [provider for _, _, provider in listed] == ["evolink"]


def test_a_fallback_that_is_held_is_passed_over(ledger: Ledger) -> None:
    for provider in ("hiapi", "evolink"):
        ledger.admission.pause(provider, by="cli", now=NOW)
    job_id = kit.create(ledger, MOVING)

    assert submit(ledger, job_id) == Moved("uniall")
    assert skips(ledger, job_id) == [{"provider": "evolink", "reason": "paused"}]
    assert kit.job(ledger, job_id).fallback_left == ()


def test_a_job_stays_while_every_provider_is_held_unless_it_must_leave(ledger: Ledger) -> None:
    staying, leaving = kit.create(ledger, MOVING), kit.claim(ledger, kit.create(ledger, MOVING))
    for provider in UNITS:
        ledger.admission.pause(provider, by="cli", now=NOW)

    assert submit(ledger, staying).reason == "paused"
    assert kit.refuse(ledger, leaving, Departure.MAY) is Result.QUEUED
    assert kit.refuse(ledger, claimed_at(ledger, "hiapi")) == Moved("evolink")


def claimed_at(ledger: Ledger, provider: str) -> Lease:
    """Create a job and claim it at a provider that is paused before and after."""
    ledger.admission.resume(provider, now=NOW)
    lease = kit.claim(ledger, kit.create(ledger, MOVING))
    ledger.admission.pause(provider, by="cli", now=NOW)
    return lease


def test_a_job_with_an_unknown_attempt_never_moves(ledger: Ledger) -> None:
    job_id = kit.create(ledger, MOVING)
    kit.unconfirmed(ledger, kit.claim(ledger, job_id), due_at=NOW)

    kit.resubmit(ledger, kit.claim(ledger, job_id))
    ledger.admission.pause("hiapi", by="cli", now=NOW)
    waits = submit(ledger, job_id)
    ledger.admission.resume("hiapi", now=NOW)

    assert waits.reason == "paused"
    assert kit.refuse(ledger, kit.claim(ledger, job_id)) is Result.EXHAUSTED


def test_the_reserved_cost_moves_and_an_exhausted_budget_is_passed_over(
    ledger: Ledger, redis: Redis
) -> None:
    kit.refuse(ledger, kit.claim(ledger, create_for_shop(ledger)))
    assert spent(redis) == {"hiapi": 0, "evolink": 2}

    kit.refuse(ledger, kit.claim(ledger, create_for_shop(ledger)))
    third = create_for_shop(ledger)

    assert kit.refuse(ledger, kit.claim(ledger, third)) is Result.EXHAUSTED
    assert spent(redis) == {"hiapi": 2, "evolink": 2, "uniall": 2}
    assert skips(ledger, third) == [
        {"provider": "evolink", "reason": "daily_budget"},
        {"provider": "uniall", "reason": "daily_budget"},
    ]


def test_a_refused_attempt_that_runs_brings_the_job_back(ledger: Ledger, redis: Redis) -> None:
    job_id = create_for_shop(ledger)
    kit.refuse(ledger, kit.claim(ledger, job_id))

    result = ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE)

    job = kit.job(ledger, job_id)
    assert (result, job.status, job.provider) == (Result.RUNNING, Status.RUNNING, "hiapi")
    assert redis.exists(keys.task(job_id, "hiapi", "task-1"))
    assert spent(redis) == {"hiapi": 2, "evolink": 0}
    assert redis.zcard(keys.in_flight(0, "hiapi")) == 1


@pytest.mark.parametrize(("sends_again", "evolink"), [(True, 2), (False, 0)])
def test_an_outcome_of_an_attempt_that_was_left_counts_at_its_provider(
    ledger: Ledger, redis: Redis, sends_again: bool, evolink: float
) -> None:
    job_id = create_for_shop(ledger)
    kit.refuse(ledger, kit.claim(ledger, job_id))
    if sends_again:  # this attempt may be charged, too
        kit.claim(ledger, job_id)
    outcome = Outcome.succeeded(SUCCESS.images, Cost(1.5, "credits"))

    assert ledger.settle_attempt(job_id, 1, "task-1", outcome, now=NOW).result is Result.SETTLED

    job = kit.job(ledger, job_id)
    sent = [job.provider_of(attempt.number) for attempt in job.attempts]
    assert (job.provider, sent) == ("hiapi", ["hiapi", "evolink"][: len(sent)])
    assert spent(redis) == {"hiapi": 1.5, "evolink": evolink}
    assert redis.zcard(keys.in_flight(0, "evolink")) == 0
