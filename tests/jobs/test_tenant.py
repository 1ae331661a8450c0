"""The owner of a job: its name, its place in the ledger, and its own idempotency keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.enqueuing import create_job, enqueue, job_of_key
from orchestrator.jobs.tenant import DEFAULT_TENANT, Budget
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jobs.views import job_view
from orchestrator.ledger import keys
from tests.support.fakes import Harness, use_runtime
from tests.support.providers import EXAMPLE_REQUESTS

REQUEST = EXAMPLE_REQUESTS["hiapi"]
Start = Callable[..., Harness]


def test_a_job_keeps_its_tenant_in_the_ledger_and_shows_it(start: Start) -> None:
    harness = start()
    created = create_job(harness.runtime, REQUEST, scope="cli", tenant="shop.EU-1").job

    stored = harness.job(created.id)

    assert created.tenant == stored.tenant == "shop.EU-1"
    assert harness.redis.hget(keys.job(created.id), "tenant") == "shop.EU-1"
    assert job_view(stored, None)["tenant"] == "shop.EU-1"


def test_a_job_without_a_named_tenant_belongs_to_default(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start()
    use_runtime(monkeypatch, harness.runtime)

    assert enqueue(**REQUEST).tenant == DEFAULT_TENANT
    assert enqueue(**REQUEST, tenant="shop").tenant == "shop"


def test_a_job_of_an_older_version_belongs_to_default(start: Start) -> None:
    harness = start()
    job_id = create_job(harness.runtime, REQUEST, scope="cli", tenant="shop").job.id
    harness.redis.hdel(keys.job(job_id), "tenant")

    assert harness.job(job_id).tenant == DEFAULT_TENANT


def test_the_same_key_of_two_tenants_names_two_jobs(start: Start) -> None:
    runtime = start().runtime
    tenants = (DEFAULT_TENANT, "one", "two")

    made = [create_job(runtime, REQUEST, scope="python", tenant=t, key="order-1") for t in tenants]
    again = [create_job(runtime, REQUEST, scope="python", tenant=t, key="order-1") for t in tenants]

    assert len({result.job.id for result in made}) == 3
    assert [result.job for result in again] == [result.job for result in made]
    found = [job_of_key(runtime, "python", "order-1", tenant) for tenant in tenants]
    assert [job and job.id for job in found] == [result.job.id for result in made]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65, "{x}", "caf\u00e9", "a\n", 7])
def test_an_odd_name_is_refused_by_name(start: Start, name: Any) -> None:
    harness = start()

    with pytest.raises(InvalidRequest, match="tenant must be 1 to 64 letters, digits"):
        create_job(harness.runtime, REQUEST, scope="cli", tenant=name)
    assert harness.redis.keys() == []


def test_a_part_of_a_budget_allows_the_amount_of_the_part() -> None:
    budget = Budget(0.3, "USD")

    assert budget.allows(0.1, shards=3), "0.3 / 3 is a little less than 0.1"
    assert budget.allows(0.1 + 0.2)
    assert not budget.allows(0.100001, shards=3)
