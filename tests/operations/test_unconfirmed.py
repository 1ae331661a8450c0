"""Money at risk: the unconfirmed attempts and the sum of their prices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from orchestrator.jobs.model import Status
from orchestrator.ledger import keys
from orchestrator.operations.unconfirmed import possible_charges, unconfirmed_attempts
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.providers import POLLED_WITHOUT_KEYS

PRICES = {
    "HIAPI_PRICES": {"unit": "USD", "prices": {"Nano-Banana-2": {"1K": 0.1, "2K": 0.2}}},
    "EVOLINK_PRICES": {"unit": "credits", "prices": {"*": 3}},
}


@pytest.fixture
def priced(start: Callable[..., Harness]) -> Harness:
    return start(**{name: orjson.dumps(table).decode() for name, table in PRICES.items()})


def sums(harness: Harness) -> dict[str, Any]:
    return possible_charges(harness.runtime, unconfirmed_attempts(harness.runtime)[1])


def test_without_unconfirmed_attempts_no_money_is_at_risk(priced: Harness) -> None:
    job_states.ended(priced)
    job_states.refused(priced)

    assert unconfirmed_attempts(priced.runtime) == (0, [])
    assert sums(priced) == {"amounts": [], "unpriced": 0}


def test_an_attempt_at_risk_is_listed_with_its_job(harness: Harness) -> None:
    job_id = job_states.unconfirmed(harness)

    number, [attempt] = unconfirmed_attempts(harness.runtime)

    assert number == 1
    assert attempt.job == harness.job(job_id)
    assert attempt.view() == {
        "job_id": job_id,
        "attempt": 1,
        "since": "2026-11-30T00:53:20.000Z",
        "provider": "hiapi",
        "model": "Nano-Banana-2",
        "status": "unconfirmed",
    }


def test_the_newest_attempts_are_listed_and_all_are_counted(harness: Harness) -> None:
    ids = []
    for _ in range(4):
        ids.append(job_states.unconfirmed(harness))
        harness.clock.forward(1)

    number, listed = unconfirmed_attempts(harness.runtime, 2)

    assert number == 4
    assert [entry.job_id for entry in listed] == [ids[3], ids[2]]


def test_prices_are_summed_by_unit(priced: Harness) -> None:
    for fields in ({}, {}, {"resolution": "2K"}):
        job_states.unconfirmed(priced, "hiapi", **fields)
    job_states.given_up(priced, "evolink")

    assert sums(priced) == {
        "amounts": [{"unit": "credits", "amount": 3}, {"unit": "USD", "amount": 0.4}],
        "unpriced": 0,
    }


def test_a_resubmitted_jobs_two_unknown_attempts_count_twice(priced: Harness) -> None:
    lease = job_states.resubmitted(priced)
    now = priced.clock.now
    priced.ledger.unconfirmed(lease, now=now, due_at=now, tries=1, reason="reset")

    assert sums(priced)["amounts"] == [{"unit": "USD", "amount": 0.2}]


def test_attempts_without_a_price_are_counted(priced: Harness) -> None:
    job_states.unconfirmed(priced, POLLED_WITHOUT_KEYS)
    job_states.unconfirmed(priced, "hiapi", resolution="4K")

    assert sums(priced) == {"amounts": [], "unpriced": 2}


def test_a_provider_that_was_switched_off_has_no_known_price(priced: Harness) -> None:
    job_states.unconfirmed(priced, "hiapi")

    assert sums(priced.provider_off()) == {"amounts": [], "unpriced": 1}


def test_an_attempt_of_an_expired_job_is_listed(priced: Harness) -> None:
    job_id = job_states.given_up(priced)
    priced.redis.delete(keys.job(job_id))

    _, [attempt] = unconfirmed_attempts(priced.runtime)

    assert attempt.job is None
    assert attempt.view()["job_id"] == job_id
    assert {attempt.view()[name] for name in ("provider", "model", "status")} == {None}
    assert sums(priced) == {"amounts": [], "unpriced": 1}


def test_a_job_that_gave_up_stays_at_risk(harness: Harness) -> None:
    job_id = job_states.given_up(harness)

    [attempt] = unconfirmed_attempts(harness.runtime)[1]

    assert (attempt.job_id, attempt.job and attempt.job.status) == (job_id, Status.FAILED)
