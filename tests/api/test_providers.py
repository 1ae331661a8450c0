"""`/v1/providers`: what each provider takes, and whether it gets submissions now."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.jobs.model import ErrorCode, Image, JobError, Outcome, Step
from orchestrator.ledger import Ledger
from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.admission import MAX_REASON_CHARACTERS
from orchestrator.providers import PROVIDERS
from tests.api.conftest import Api, Open
from tests.support import job_states
from tests.support.web import WebApp


def listed(api: Api) -> dict[str, Any]:
    response = api.get("/v1/providers")
    assert response.status_code == 200
    assert response.json is not None
    return {provider["name"]: provider for provider in response.json["providers"]}


def test_every_provider_is_listed_and_whether_it_is_on(open_api: Open) -> None:
    found = listed(open_api(EVOLINK_API_KEY=None))

    assert {name: provider["on"] for name, provider in found.items()} == {
        name: name != "evolink" for name in PROVIDERS
    }


def test_a_model_says_its_limits(api: Api) -> None:
    found = listed(api)

    [model] = found["hiapi"]["models"]
    assert model["name"] == "Nano-Banana-2"
    assert model["options"]["resolution"] == {"one_of": ["1K", "2K", "4K"], "default": "1K"}
    assert found["hiapi"]["support"]["n"] == "refused"
    assert found["evolink"]["models"][0]["options"]["prompt"]["max_length"] == 2000


def test_a_caller_without_a_key_is_told_nothing(api: Api) -> None:
    api.headers = {}

    assert api.get("/v1/providers").status_code == 401


def test_no_key_of_ours_is_in_the_answer(api: Api) -> None:
    assert "sk-provider" not in api.get("/v1/providers").text


def test_a_price_table_shows_in_the_list(open_api: Open) -> None:
    table = '{"unit": "USD", "prices": {"*": {"1K": 0.04, "*": 0.1}}}'

    found = listed(open_api(HIAPI_PRICES=table))

    assert found["hiapi"]["models"][0]["price"] == {"amount": 0.04, "unit": "USD"}
    assert found["evolink"]["models"][0]["price"] is None


# Limits and states ----------------------------------------------------------------------------

NO_CREDITS = JobError(ErrorCode.INSUFFICIENT_CREDITS, "no credits for A red cube")


def refused(api: Api) -> None:
    """HiAPI refuses our account for ten seconds."""
    now = api.harness.clock.now
    api.harness.ledger.admission.hold(
        "hiapi", Step.SUBMIT, NO_CREDITS, now=now, ends_at=now + 10_000
    )


def circuit(api: Api) -> CircuitState:
    now = api.harness.clock.now
    return api.harness.ledger.admission.states(["hiapi"], now=now)["hiapi"].circuit


def test_an_administrator_sees_the_limits_and_the_state_of_a_provider(open_api: Open) -> None:
    api = open_api(HIAPI_MAX_IN_FLIGHT="7", HIAPI_REQUESTS_PER_SECOND="0.5", HIAPI_BURST="3")
    job_states.running(api.harness)
    refused(api)

    found = listed(api.as_admin())

    expected = {
        "limits": {"max_in_flight": 7, "requests_per_second": 0.5, "burst": 3},
        "in_flight": 1,
        "found_limit": None,
        "circuit": "open",
        "until": "2026-11-30T00:53:30.000Z",
        "reason": {"code": "insufficient_credits", "message": "no credits for A red cube"},
        "paused_by": None,
    }
    assert {field: found["hiapi"][field] for field in expected} == expected
    assert found["evolink"]["limits"]["max_in_flight"] is None
    assert (found["evolink"]["circuit"], found["evolink"]["until"]) == ("closed", None)


def test_an_administrator_sees_how_long_tasks_took(api: Api) -> None:
    for seconds in (10, 20, 30):
        job_id = job_states.running(api.harness)
        api.harness.clock.forward(seconds)
        outcome = Outcome.succeeded((Image("https://images.example/0.png", 0),))
        attempt = api.harness.job(job_id).attempt
        api.harness.ledger.settle_attempt(
            job_id, attempt.number, str(attempt.task_id), outcome, now=api.harness.clock()
        )

    found = listed(api.as_admin())

    took = {"results": 3, "p15_seconds": 10, "p50_seconds": 20, "p90_seconds": 30}
    models = [{"model": None, **took}, {"model": "Nano-Banana-2", **took}]
    assert (found["hiapi"]["durations"], found["evolink"]["durations"]) == (models, [])


def test_another_key_sees_nothing_of_other_tenants_and_operators(api: Api) -> None:
    refused(api)

    found = listed(api)["hiapi"]

    assert (found["circuit"], found["reason"]) == ("open", {"code": "insufficient_credits"})
    assert not {"in_flight", "found_limit", "paused_by", "durations"} & set(found)


def test_while_redis_is_away_the_list_has_no_states(open_api: Open, away: Ledger) -> None:
    api = open_api(HIAPI_MAX_IN_FLIGHT="7")
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime)).as_admin()

    found = listed(client)["hiapi"]

    assert (found["circuit"], found["in_flight"], found["durations"]) == (None, None, None)
    assert found["limits"]["max_in_flight"] == 7
    assert client.post("/v1/providers/hiapi/pause").status_code == 503


def test_an_administrator_pauses_and_resumes_a_provider(api: Api) -> None:
    refused(api)

    paused = api.as_admin().post("/v1/providers/hiapi/pause", json={"reason": "they asked us"})

    assert paused.status_code == 200
    state = paused.json or {}
    assert (state["name"], state["circuit"], state["until"]) == ("hiapi", "paused", None)
    assert state["reason"] == {"code": "paused", "message": "they asked us"}
    assert state["paused_by"].startswith("admin:")
    assert circuit(api) is CircuitState.PAUSED
    resumed = api.as_admin().post("/v1/providers/hiapi/resume")
    assert (resumed.status_code, (resumed.json or {})["circuit"]) == (200, "closed")
    assert circuit(api) is CircuitState.CLOSED
    resume, pause = api.harness.ledger.audit.entries(10)
    assert (resume.action, pause.action) == ("provider_resume", "provider_pause")
    assert (pause.target, pause.actor) == ("hiapi", state["paused_by"])
    assert pause.detail == {"reason": "they asked us"}


def test_a_pause_needs_no_reason(api: Api) -> None:
    response = api.as_admin().post("/v1/providers/hiapi/pause")

    assert (response.json or {})["reason"] == {"code": "paused", "message": ""}


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_an_unknown_provider_is_404_with_the_known_ones(api: Api, action: str) -> None:
    response = api.as_admin().post(f"/v1/providers/hiap/{action}")

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
    assert "did you mean hiapi?" in response.text
    assert all(name in response.text for name in PROVIDERS)
    assert api.harness.ledger.audit.entries(10) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"reason": 5}, "reason must be a text"),
        ({"reasons": "x"}, "did you mean reason?"),
        ({"reason": "x" * (MAX_REASON_CHARACTERS + 1)}, "at most 500 characters"),
    ],
)
def test_a_wrong_reason_is_refused_and_pauses_nothing(
    api: Api, body: dict[str, Any], words: str
) -> None:
    response = api.as_admin().post("/v1/providers/hiapi/pause", json=body)

    assert (response.status_code, words in response.text) == (422, True), response.text
    assert circuit(api) is CircuitState.CLOSED
