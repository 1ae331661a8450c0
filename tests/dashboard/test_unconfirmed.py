"""The page of unconfirmed attempts: evidence, prices, tenants, bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.dashboard import unconfirmed
from tests.dashboard.visitor import admin, tenant
from tests.support import job_states
from tests.support.fakes import Harness


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start(HIAPI_PRICES='{"unit": "USD", "prices": {"Nano-Banana-2": 0.04}}')


def test_without_attempts_the_page_says_what_it_is_for(harness: Harness) -> None:
    assert "No attempt is unconfirmed" in tenant(harness).text("/unconfirmed")


def test_each_attempt_has_evidence_and_choices_with_prices(harness: Harness) -> None:
    waiting = job_states.unconfirmed(harness)
    failed = job_states.given_up(harness)
    page = tenant(harness).text("/unconfirmed")

    assert "0.08 USD" in page  # of both
    assert "idempotency key for 24 hours" in page
    assert "Waiting costs nothing" in page
    assert "about 0.04 USD. If the first one was charged, you pay twice" in page
    assert page.index(failed) < page.index(waiting)  # the newest first
    assert "reason: reset" in page


def test_a_retry_returns_to_the_new_job_and_shows_here(harness: Harness) -> None:
    visit, job_id = tenant(harness), job_states.given_up(harness)

    refused = visit.acted(f"/jobs/{job_id}/retry", page="unconfirmed")
    assert f"Job {job_id}: It is not retried" in refused
    visit.acted(f"/jobs/{job_id}/retry", page="unconfirmed", risk="1")
    assert "Retried</b> as" in visit.text("/unconfirmed")


def test_a_tenant_sees_its_own_attempts_and_their_money(harness: Harness) -> None:
    own = job_states.unconfirmed(harness)
    foreign = job_states.unconfirmed(harness, tenant="other")

    page = tenant(harness).text("/unconfirmed")
    assert own in page
    assert foreign not in page
    assert "<b>1</b>" in page
    every = admin(harness).text("/unconfirmed")
    assert own in every
    assert foreign in every
    assert own not in admin(harness).text("/unconfirmed?tenant=other")


def test_the_page_is_bounded_and_has_a_next_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unconfirmed, "PAGE_JOBS", 2)
    jobs = [job_states.unconfirmed(harness) for _ in range(3)]
    visit = tenant(harness)
    page = visit.text("/unconfirmed")

    assert page.count("<article") == 2
    assert "<b>3</b>" in page
    older = page.partition('href="/unconfirmed?cursor=')[2].partition('"')[0]
    assert jobs[0] in visit.text(f"/unconfirmed?cursor={older}")
    assert visit.text("/unconfirmed?cursor=<x>")
