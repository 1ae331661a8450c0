"""`POST /v1/jobs/quote` says what an enqueue would do, and does nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.operations.tenants import set_tenant
from tests.api.conftest import NATIVE, UNIFIED, Api, Open
from tests.support.fakes import TENANT

PRICES = '{"unit": "credits", "prices": {"Nano-Banana-2": 1.5}}'


@pytest.fixture
def priced(open_api: Open) -> Api:
    return open_api(HIAPI_PRICES=PRICES)


def quoted(api: Api, **changes: Any) -> dict[str, Any]:
    answer = api.post("/v1/jobs/quote", json={**UNIFIED, **changes})
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def limit(api: Api, **changes: str) -> None:
    set_tenant(api.harness.runtime, TENANT, changes, actor="tests")
    api.harness.clock.forward(6)  # access is read again after 5 s


def test_a_quote_has_the_cost_at_each_provider_and_creates_nothing(priced: Api) -> None:
    fallback = [{"provider": "evolink", "model": "nano-banana-2-lite"}]
    quote = quoted(priced, fallback=fallback)

    at_first = {"provider": "hiapi", "model": "Nano-Banana-2"}
    assert quote == {
        "accepted": True,
        "problem": None,
        "costs": [
            {**at_first, "amount": 1.5, "unit": "credits", "source": "computed"},
            {**fallback[0], "amount": None, "unit": None, "source": "unknown"},
        ],
    }
    listed = priced.get("/v1/jobs").json
    assert listed == {"jobs": [], "next_cursor": None}


@pytest.mark.parametrize(
    "changes", [{"aspect_ratio": "7:5"}, {"provider": "nobody"}, {"size": "large"}, {"n": 0}]
)
def test_the_problem_is_that_of_the_enqueue(api: Api, changes: dict[str, Any]) -> None:
    refused = api.create({**UNIFIED, **changes})

    assert refused.status_code == 422
    assert quoted(api, **changes) == {"accepted": False, "problem": refused.json, "costs": []}


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_open": "1"}, "max_open"),
        ({"requests_per_second": "0.25"}, "requests_per_second"),
        ({"budget.hiapi": "2 credits"}, "daily_budget"),
    ],
)
def test_a_limit_of_the_tenant_is_a_problem(priced: Api, limits: dict[str, str], name: str) -> None:
    limit(priced, **limits)
    assert quoted(priced)["accepted"] is True
    priced.created()
    quote, refused = quoted(priced), priced.create(UNIFIED)

    assert refused.status_code == 429
    assert refused.json is not None
    assert (quote["accepted"], quote["problem"]) == (False, refused.json)
    assert quote["problem"]["limit"] == name
    assert quote["costs"][0]["amount"] == 1.5


def test_a_job_that_uses_up_its_budget_is_accepted(open_api: Open) -> None:
    """As numbers with a binary fraction, three times 1.1 is more than 3.3."""
    api = open_api(HIAPI_PRICES=PRICES.replace("1.5", "1.1"))
    limit(api, **{"budget.hiapi": "3.3 credits"})
    for _ in range(3):
        assert quoted(api)["accepted"] is True
        api.created()

    assert quoted(api)["accepted"] is False
    assert api.create(UNIFIED).status_code == 429


def test_a_native_request_is_quoted(api: Api) -> None:
    answer = api.post("/v1/jobs/quote", json=NATIVE)

    assert answer.json is not None
    assert (answer.json["accepted"], answer.json["costs"][0]["provider"]) == (True, "evolink")
