"""Fair turns: every provider and every tenant gets its share of the sweeps and of the claims."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, LEASE, NEXT_DUE, NOW, REQUEST


def listed(ledger: Ledger, limit: int, *, now: int = NOW) -> list[str]:
    return [job_id for job_id, _ in ledger.agenda.due(0, now=now, limit=limit)]


def tenants(ledger: Ledger, job_ids: list[str]) -> list[str]:
    return sorted(kit.job(ledger, job_id).tenant for job_id in job_ids)


def many(ledger: Ledger, number: int, tenant: str, *, now: int = NOW - 1000) -> list[str]:
    return [kit.create(ledger, tenant=tenant, now=now) for _ in range(number)]


@pytest.mark.parametrize("limit", [2, 5, 100])
def test_a_sweep_lists_every_tenant(ledger: Ledger, limit: int) -> None:
    many(ledger, 20, "busy")
    [rare] = many(ledger, 1, "rare", now=NOW)

    found = listed(ledger, limit)

    assert rare in found
    assert len(found) == min(limit, 21)


def test_a_sweep_lists_every_provider(ledger: Ledger) -> None:
    many(ledger, 20, "one")
    other = kit.create(ledger, replace(REQUEST, provider="uniall"))

    assert other in listed(ledger, 3)


def test_a_sweep_lists_polls_beside_submissions(ledger: Ledger) -> None:
    running = kit.running(ledger, due_at=NOW)
    many(ledger, 20, "default")

    assert running in listed(ledger, 3)


def test_with_more_tenants_than_places_each_tenant_has_its_turn(ledger: Ledger) -> None:
    names = [f"t{number}" for number in range(7)]
    for name in names:
        many(ledger, 5, name)

    found = [
        tenant
        for second in range(7)
        for tenant in tenants(ledger, listed(ledger, 2, now=NOW + second * 1000))
    ]

    assert set(found) == set(names)


def test_a_flow_whose_jobs_are_due_later_is_listed_later(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    kit.requeue(ledger, lease, due_at=NEXT_DUE)

    assert listed(ledger, 9) == []
    assert listed(ledger, 9, now=NEXT_DUE - 1) == []
    assert listed(ledger, 9, now=NEXT_DUE) == [lease.job.id]


def test_a_job_of_an_older_version_is_found_again(ledger: Ledger, redis: Redis) -> None:
    jobs = kit.create(ledger), kit.running(ledger, due_at=NOW)
    before = kit.state(redis)
    kit.make_old(redis, *jobs)

    assert sorted(listed(ledger, 9)) == sorted(jobs)
    after = kit.state(redis)
    kinds = ("flow:", "agenda", "tenants", "in_flight", "jobs")
    kept = [key for key in before if any(f":{kind}" in key for kind in kinds)]
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}


def test_a_transition_of_a_job_of_an_older_version_counts_it_first(
    ledger: Ledger, redis: Redis
) -> None:
    first, second = kit.create(ledger), kit.running(ledger)
    kit.make_old(redis, first, second)

    kit.claim(ledger, first)
    assert ledger.overview.tenants() == {"default": {"open": 1}}
    ledger.settle_attempt(second, 1, "task-2", kit.SUCCESS, now=NOW)

    assert ledger.overview.tenants() == {"default": {"open": 1, "succeeded": 1}}
    assert redis.zrange(keys.tenant_jobs(0, "default"), 0, -1) == sorted([first, second])
    assert redis.zcard(keys.in_flight(0, "hiapi")) == 1
    assert redis.hget(keys.counts(0), "running:hiapi") == "0"


# Claims -------------------------------------------------------------------------------------


def test_a_claim_takes_the_job_of_the_tenant_with_fewer_turns(ledger: Ledger) -> None:
    busy = many(ledger, 4, "busy")
    rare = many(ledger, 2, "rare")

    claimed = [kit.claim(ledger, job_id).job for job_id in busy]

    assert [job.tenant for job in claimed].count("rare") == 2
    assert {job.id for job in claimed} >= set(rare)
    assert {job.status for job in claimed} == {Status.SUBMITTING}


def test_a_late_tenant_does_not_make_up_for_turns_before_its_time(ledger: Ledger) -> None:
    first = many(ledger, 10, "busy")
    kit.create(ledger, tenant="other")
    for job_id in first[:6]:
        kit.claim(ledger, job_id)
    late = many(ledger, 4, "late", now=NOW)

    claimed = [kit.claim(ledger, job_id).job.tenant for job_id in first[6:8]]

    assert "busy" in claimed
    assert len(late) == 4


def test_a_repeated_claim_returns_the_job_that_was_taken(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: "token")
    busy = many(ledger, 2, "busy")
    many(ledger, 1, "rare")
    kit.claim(ledger, busy[0])

    again = [ledger.claim(busy[1], Step.SUBMIT, now=NOW, lease_ms=LEASE) for _ in range(2)]

    assert again[0] == again[1]
    assert kit.job(ledger, busy[1]).status is Status.QUEUED


def test_a_job_of_another_tenant_that_cannot_start_does_not_take_the_turn(
    ledger: Ledger, redis: Redis
) -> None:
    busy = many(ledger, 4, "busy")
    expired, late, later = many(ledger, 3, "rare")
    redis.delete(keys.job(expired))
    redis.hset(keys.job(late), "deadline", NOW)
    kit.claim(ledger, busy[0])

    assert kit.claim(ledger, busy[1]).job.id in (busy[1], later)


@pytest.mark.parametrize("leased", [False, True])
def test_a_queued_job_at_its_deadline_is_listed_once_however_long_its_flow(
    ledger: Ledger, leased: bool
) -> None:
    jobs = many(ledger, 5, "default")
    last = ledger.create(REQUEST, now=NOW, deadline_at=NOW + 10).job_id
    if leased:
        kit.claim(ledger, last, now=NOW + 10)

    found = listed(ledger, 2, now=NOW + 10)

    assert (last in found) is not leased
    assert len(found) == len(set(found))
    assert set(found) & set(jobs)
    assert kit.job(ledger, last).deadline_at < DEADLINE
