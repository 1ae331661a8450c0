"""Money: charges equal a plain loop over the jobs; budgets hold what open jobs may cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.clock import DAY_MS, iso_date
from orchestrator.jobs.model import Cost, Image, Outcome
from orchestrator.operations.money import money
from orchestrator.operations.tenants import set_tenant
from tests.history.kit import with_history
from tests.operations.test_usage import record, work
from tests.support import job_states
from tests.support.fakes import TENANT, Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    yield from with_history(start(), tmp_path)


def test_charges_and_unknown_costs_are_those_of_the_jobs(harness: Harness) -> None:
    jobs = work(harness)
    record(harness)

    found = money(harness.runtime, None, 4)

    assert {job.cost.source for job in jobs if job.cost} == {"reported", "computed"}
    known = [(job, job.cost) for job in jobs if job.cost]
    for source in ("reported", "computed"):
        expected = sum(cost.amount for _, cost in known if cost.source == source)
        assert sum(getattr(row, source) for row in found.spend) == pytest.approx(expected)
    days = {iso_date(job.created_at // DAY_MS) for job, _ in known}
    assert {row.day for row in found.spend if row.unit} == days
    assert [row.day for row in found.spend] == sorted((r.day for r in found.spend), reverse=True)
    assert sum(row.unknown_jobs for row in found.spend) > 0
    assert found.unconfirmed_attempts == harness.ledger.overview.unconfirmed(0)[0] > 0
    assert money(harness.runtime, None, 1).spend == []
    other = money(harness.runtime, "other", 4)
    assert (other.spend, other.unconfirmed_attempts) == ([], 0)


def test_a_budget_holds_the_expected_cost_until_the_charge_is_known(
    start: Callable[..., Harness], harness: Harness
) -> None:
    priced = start(EVOLINK_PRICES='{"unit": "credits", "prices": {"*": 3}}')
    made = priced.with_runtime(open_history=lambda: harness.runtime.history)
    made.clock.now = harness.clock.now
    set_tenant(made.runtime, TENANT, {"budget.evolink": "10"}, actor="test")
    ids = [job_states.running(made, "evolink") for _ in range(2)]
    outcome = Outcome.succeeded((Image("https://images.example/0.png"),), Cost(2.0, "credits"))
    now, task = made.clock.now, job_states.task_of(ids[0])
    made.ledger.settle_attempt(ids[0], 1, task, outcome, now=now)
    record(made)
    found = money(made.runtime, TENANT)
    [use] = found.budgets
    assert (use.budget, use.used, use.reserved, use.unit) == (10, 5, 3, "credits")
    assert money(made.runtime, None) == found
    charges = {(row.unit, row.charged, row.unknown_jobs) for row in found.spend}
    assert charges == {("credits", 2.0, 0), (None, 0.0, 1)}

    made.clock.now += DAY_MS
    job_states.running(made, "evolink")
    assert money(made.runtime, TENANT).spend == []
    days = money(made.runtime, TENANT, 2)
    assert days.spend == found.spend
    assert [(use.used, use.reserved) for use in days.budgets] == [(3, 3)], "charges of today count"
