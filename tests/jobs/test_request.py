"""A request as the ledger stores it."""

from __future__ import annotations

from orchestrator.jobs.request import JobRequest, Target


def test_the_ledger_stores_the_fallbacks_as_json() -> None:
    request = JobRequest("hiapi", "a", fallback=(Target("evolink", "b"),))

    assert request.stored()["fallback"] == [{"provider": "evolink", "model": "b"}]


def test_the_ledger_stores_no_empty_field() -> None:
    assert JobRequest("hiapi", "a").stored() == {
        "provider": "hiapi",
        "model": "a",
        "on_unconfirmed": "fail",
    }
