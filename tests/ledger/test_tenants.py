"""The tenants of jobs: numbers, limits and indexes that no process and no crash can break."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.tenant import Budget, Tenant
from orchestrator.ledger import Idempotency, Ledger, LedgerUnavailable, Result, identifiers, keys
from orchestrator.ledger.access import MAX_AGE_SECONDS, REFRESH_SECONDS
from orchestrator.ledger.results import Created
from orchestrator.security.api_keys import DEFAULT_SCOPES, ApiKey, digest
from tests.ledger import kit
from tests.ledger.kit import DAY, DEADLINE, NOW, REQUEST
from tests.ledger.recording import RecordingClient
from tests.support.fakes import Timer

SHOP = Tenant("shop", max_open=10)
FAST = Tenant("fast", requests_per_second=4)


def create(ledger: Ledger, tenant: Tenant, *, now: int = NOW, key: str | None = None) -> Created:
    return ledger.create(
        REQUEST,
        now=now,
        deadline_at=DEADLINE,
        tenant=tenant.name,
        limits=tenant,
        idempotency=Idempotency("api", key) if key else None,
    )


def results(made: list[Created]) -> list[int]:
    """Return the numbers of created and of limited jobs."""
    return [sum(m.result is r for m in made) for r in (Result.CREATED, Result.LIMITED)]


@pytest.mark.parametrize("shards", [1, 3])
def test_many_clients_never_exceed_the_limit_of_open_jobs(
    real_redis: Redis, redis_url: str, shards: int
) -> None:
    ledger = Ledger.from_url(redis_url, shards=shards)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(ledger, SHOP), range(120)))

    assert results(made) == [10, 110]
    assert ledger.overview.tenants() == {"shop": {"open": 10}}


def test_the_number_of_open_jobs_follows_every_outcome(ledger: Ledger) -> None:
    tenant = Tenant("shop", max_open=3)
    first, second, third = (create(ledger, tenant).job_id for _ in range(3))
    assert create(ledger, tenant).limit == "max_open"

    ledger.cancel(first, now=NOW)
    ledger.cancel(first, now=NOW)
    ledger.accepted(kit.claim(ledger, second).job.id, 1, "task-1", now=NOW, due_at=NOW)
    for outcome in (kit.SUCCESS, kit.SUCCESS, kit.FAILURE):
        ledger.settle_attempt(second, 1, "task-1", outcome, now=NOW)
    kit.claim(ledger, third)

    counts = ledger.overview.tenants()["shop"]
    assert counts == {"open": 1, "cancelled": 1, "succeeded": 1}
    assert results([create(ledger, tenant) for _ in range(3)]) == [2, 1]


def test_a_refused_job_leaves_nothing_behind(ledger: Ledger, redis: Redis) -> None:
    tenant = Tenant("shop", max_open=1)
    create(ledger, tenant)
    before = {key: redis.dump(key) for key in kit.every_key(redis)}

    assert create(ledger, tenant, key="order-1").result is Result.LIMITED

    assert {key: redis.dump(key) for key in kit.every_key(redis)} == before


def test_a_repeated_call_counts_once_for_every_limit(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    budgets = {"hiapi": Budget(5, "credits")}
    tenant = Tenant("shop", max_open=1, requests_per_second=1, daily_budgets=budgets)
    arguments: dict[str, Any] = {"tenant": "shop", "limits": tenant, "reserve": {"hiapi": kit.COST}}
    made = recorded_ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, **arguments)
    before = {key: redis.dump(key) for key in kit.every_key(redis)}

    recorder.repeat()

    assert (made.result, recorder.answer) == (Result.CREATED, ["created", "", ""])
    assert {key: redis.dump(key) for key in kit.every_key(redis)} == before


def test_the_rate_allows_a_burst_of_one_second_and_then_one_job_at_a_time(ledger: Ledger) -> None:
    made = [create(ledger, FAST) for _ in range(6)]
    later = [create(ledger, FAST, now=NOW + 250) for _ in range(2)]
    rested = [create(ledger, FAST, now=NOW + 5000) for _ in range(5)]

    assert results(made) == [4, 2]
    assert (made[-1].limit, made[-1].wait_ms) == ("requests_per_second", 250)
    assert results(later) == [1, 1]
    assert results(rested) == [4, 1]


def test_new_jobs_remove_expired_jobs_from_the_index(ledger: Ledger, redis: Redis) -> None:
    tenant = Tenant("shop")
    old = [create(ledger, tenant).job_id for _ in range(4)]
    for job_id in old:
        redis.delete(keys.job(job_id))

    new = [create(ledger, tenant).job_id for _ in range(2)]

    assert redis.zrange(keys.tenant_jobs(0, "shop"), 0, -1) == sorted(new)
    listed = ledger.overview.newest(10, below=identifiers.LAST_ID, tenant="shop")
    assert listed == sorted(new, reverse=True)


def test_a_forgotten_job_leaves_the_index(ledger: Ledger, redis: Redis) -> None:
    job_id = create(ledger, Tenant("shop")).job_id
    ledger.cancel(job_id, now=NOW)

    assert ledger.overview.forget(job_id, before=NOW + DAY) is Result.FORGOTTEN
    assert redis.exists(keys.tenant_jobs(0, "shop")) == 0


# The cached view of a process -----------------------------------------------------------------


def on(redis: Any, clock: Timer) -> Ledger:
    ledger = Ledger(lambda: redis)
    ledger.access._clock = clock
    return ledger


def test_another_process_knows_a_change_after_the_refresh_time(redis: Redis) -> None:
    writer, clock = Ledger(lambda: redis), Timer()
    reader = on(redis, clock)
    key = ApiKey("key_1", "shop", DEFAULT_SCOPES, digest("a key"), NOW)
    assert reader.access.current().keys == {}

    writer.access.add_key(key)
    writer.access.set_tenant("shop", {"max_open": "5"})
    assert reader.access.current().keys == {}
    clock.now += REFRESH_SECONDS

    assert reader.access.current().keys == {key.digest: key}
    assert reader.access.current().tenant("shop").max_open == 5
    writer.access.revoke_key(key.id, now=NOW)
    clock.now += REFRESH_SECONDS
    assert reader.access.current().keys[key.digest].revoked_at == NOW


def test_an_unchanged_view_costs_one_read_of_the_counter(
    shared_ledger: Ledger, redis: Redis
) -> None:
    clock = Timer()
    shared_ledger.access._clock = clock
    view = shared_ledger.access.current()
    reads: Any = redis.info("commandstats")
    clock.now += REFRESH_SECONDS

    assert shared_ledger.access.current() is view
    again: Any = redis.info("commandstats")
    calls = [stats.get("cmdstat_hgetall", {}).get("calls", 0) for stats in (reads, again)]
    assert calls[0] == calls[1]


def test_while_redis_is_away_the_last_view_is_used_for_a_while(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Timer()
    ledger = on(redis, clock)
    view = ledger.access.current()

    def away() -> None:
        raise LedgerUnavailable("it does not answer")

    monkeypatch.setattr(ledger.access, "_version", away)
    clock.now += MAX_AGE_SECONDS

    assert ledger.access.current() is view
    clock.now += 1
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        ledger.access.current()


@pytest.mark.parametrize(("shards", "rate"), [(1, 0.5), (1, 4.0), (3, 2.0)])
def test_the_wait_for_a_rate_is_that_of_the_next_job(
    redis: Redis, shards: int, rate: float
) -> None:
    ledger, tenant = Ledger(lambda: redis, shards=shards), Tenant("t", requests_per_second=rate)
    now = NOW
    for _ in range(20):
        wait = ledger.overview.rate_wait("t", rate, now=now)
        made = create(ledger, tenant, now=now)
        if wait:
            assert made.result is Result.LIMITED
        elif shards == 1:
            assert made.result is Result.CREATED
        assert shards > 1 or made.wait_ms == wait
        now += wait
