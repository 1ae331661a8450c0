"""The daily budget of a tenant counts reserved, charged and unknown costs, each once."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Cost, ErrorCode, JobError, Outcome, SettledBy
from orchestrator.jobs.tenant import Budget, Tenant
from orchestrator.ledger import Lease, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DAY, DEADLINE, NOW, REQUEST

#: The reserved cost of each job, and a budget for three of them.
EACH = Cost(2, "credits", "computed")
SHOP = Tenant("shop", daily_budgets={"hiapi": Budget(6, "credits")})
IMAGES = kit.SUCCESS.images
REFUSED = JobError(ErrorCode.CONTENT_POLICY, "no cubes")


def create(ledger: Ledger, *, now: int = NOW) -> tuple[Result, str]:
    made = ledger.create(
        REQUEST, now=now, deadline_at=DEADLINE, tenant="shop", limits=SHOP, reserve={"hiapi": EACH}
    )
    return made.result, made.job_id


def submitting(ledger: Ledger) -> Lease:
    return kit.claim(ledger, create(ledger)[1])


def spent(redis: Redis, day: int = NOW // DAY) -> float:
    stored: Any = redis.hget(keys.spend(0, "shop", day), "hiapi credits")
    return float(stored or 0)


def test_open_jobs_reserve_their_cost_until_the_next_day(ledger: Ledger, redis: Redis) -> None:
    results = [create(ledger)[0] for _ in range(4)]
    tomorrow = create(ledger, now=NOW + DAY)[0]

    assert results == [*[Result.CREATED] * 3, Result.LIMITED]
    assert spent(redis) == 6
    assert (tomorrow, spent(redis, NOW // DAY + 1)) == (Result.CREATED, 2)


def failed(code: ErrorCode, cost: Cost | None = None) -> Outcome:
    return Outcome.failed(JobError(code, "it failed"), cost)


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [
        (Outcome.succeeded(IMAGES, Cost(3, "credits")), 3),
        (Outcome.succeeded(IMAGES, EACH), 2),
        (Outcome.succeeded(IMAGES, Cost(9, "USD")), 2),
        (Outcome.succeeded(IMAGES), 2),
        (failed(ErrorCode.CONTENT_POLICY), 0),
        (failed(ErrorCode.CONTENT_POLICY, Cost(1, "credits")), 1),
        (failed(ErrorCode.DEADLINE_EXCEEDED), 2),
        (failed(ErrorCode.NOT_FOUND), 2),
    ],
)
def test_an_outcome_replaces_the_reserved_cost(
    ledger: Ledger, redis: Redis, outcome: Outcome, cost: float
) -> None:
    job_id = submitting(ledger).job.id
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NOW)

    for _ in range(2):
        ledger.settle_attempt(job_id, 1, "task-1", outcome, now=NOW)

    assert spent(redis) == cost


def test_a_job_that_was_never_accepted_costs_nothing(ledger: Ledger, redis: Redis) -> None:
    cancelled, lease = create(ledger)[1], submitting(ledger)

    ledger.cancel(cancelled, now=NOW)
    ledger.settle(lease, Outcome.failed(REFUSED), SettledBy.SUBMIT, now=NOW)

    assert spent(redis) == 0


def test_each_attempt_with_an_unknown_result_counts(ledger: Ledger, redis: Redis) -> None:
    first = submitting(ledger)
    kit.unconfirmed(ledger, first, due_at=NOW)
    kit.resubmit(ledger, kit.claim(ledger, first.job.id))
    kit.claim(ledger, first.job.id)
    ledger.settle_attempt(first.job.id, 2, "task-2", Outcome.succeeded(IMAGES, EACH), now=NOW)

    assert spent(redis) == 4


def test_a_late_success_is_charged_once(ledger: Ledger, redis: Redis) -> None:
    job_id = submitting(ledger).job.id
    ledger.settle_attempt(job_id, 1, "task-1", Outcome.failed(REFUSED), now=NOW)
    assert spent(redis) == 0

    for _ in range(2):
        ledger.settle_attempt(job_id, 1, "task-1", Outcome.succeeded(IMAGES), now=NOW)

    assert spent(redis) == 2
