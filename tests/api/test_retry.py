"""`POST /v1/jobs/{id}/retry`: the request of a failed or cancelled job again, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from tests.api.conftest import Api
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.web import WebApp


def shown(api: Api, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = api.get(f"/v1/jobs/{job_id}").json or {}
    return job


def retried(api: Api, job_id: str, body: Any = None) -> Any:
    """The answer; bytes are sent as they are."""
    how: dict[str, Any] = {} if body is None else {"json": body}
    if isinstance(body, bytes):
        how = {"data": body, "content_type": "application/json"}
    return api.post(f"/v1/jobs/{job_id}/retry", **how)


def test_a_failed_jobs_request_becomes_a_new_job(api: Api) -> None:
    job_id = job_states.refused(api.harness, metadata={"order": 7})
    api.harness.nudges.sent.clear()

    response = retried(api, job_id)

    assert (response.status_code, response.mimetype) == (202, "application/json")
    new = response.json["id"]
    assert new != job_id
    assert response.json == api.get(f"/v1/jobs/{new}").json
    assert (response.json["status"], response.json["metadata"]) == ("queued", {"order": 7})
    assert response.json["request"] == {"prompt": "A red cube"}
    assert api.harness.nudges.sent == [(Step.SUBMIT, new)]


def test_a_second_retry_is_200_with_the_same_job(api: Api) -> None:
    job_id = job_states.cancelled(api.harness)

    first, second = retried(api, job_id), retried(api, job_id)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json["id"] == first.json["id"]
    assert api.harness.ledger.overview.size() == 2


def test_the_two_jobs_name_each_other_everywhere(api: Api) -> None:
    old = job_states.refused(api.harness)
    new = retried(api, old).json["id"]
    newest = retried(api, cancelled_again(api, new)).json["id"]

    chain = [(None, new), (old, newest), (new, None)]
    jobs = [shown(api, job_id) for job_id in (old, new, newest)]
    page: Any = api.get("/v1/jobs").json

    assert [(job["retry_of"], job["retried_as"]) for job in jobs] == chain
    assert [(job["retry_of"], job["retried_as"]) for job in reversed(page["jobs"])] == chain


def cancelled_again(api: Api, job_id: str) -> str:
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def test_a_retry_that_was_interrupted_is_named_by_the_same_call(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = job_states.refused(api.harness)

    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "retried", away)
        assert retried(api, old).status_code == 503

    again = retried(api, old)

    assert (again.status_code, again.json["retry_of"]) == (200, old)
    assert shown(api, old)["retried_as"] == again.json["id"]
    assert api.harness.ledger.overview.size() == 2


def test_a_job_that_redis_has_forgotten_names_its_retry(api: Api, tmp_path: Path) -> None:
    harness, history = api.harness, History(f"sqlite:///{tmp_path}/history.db")
    runtime = replace(harness.runtime, open_history=lambda: history)
    recorder, client = (
        Recorder(harness.ledger, history, harness.clock),
        Api(harness, WebApp(runtime)),
    )
    recorder.record()
    old = job_states.refused(harness)
    while recorder.record():
        pass
    harness.redis.delete(keys.job(old), keys.events(old))
    harness.clock.forward(runtime.settings.retention_days * 86_400)

    new = retried(client, old, {"accept_risk": True}).json["id"]
    while recorder.record():
        pass

    assert shown(client, old)["retried_as"] == new
    assert shown(client, new)["retry_of"] == old
    harness.redis.delete(keys.job(new), keys.events(new), *harness.redis.keys("*:idempotency:*"))
    again = retried(client, old)
    assert (again.status_code, again.json["id"]) == (200, new)
    history.close()


def test_a_caller_and_an_administrator_do_not_buy_it_twice(api: Api) -> None:
    job_id = job_states.refused(api.harness)
    first = retried(api, job_id)

    second = retried(api.as_admin(), job_id)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json["id"] == first.json["id"]


def test_a_job_is_retried_once_also_when_the_key_of_its_retry_has_ended(api: Api) -> None:
    harness = api.harness
    old, risky = job_states.refused(harness), job_states.given_up(harness)
    first = [retried(api, old), retried(api, risky, {"accept_risk": True})]
    harness.redis.delete(*harness.redis.keys("*:idempotency:*"))

    again = [retried(api, old), retried(api, risky)]

    assert [answer.status_code for answer in first] == [202, 202]
    assert [answer.status_code for answer in again] == [200, 200]
    assert [answer.json["id"] for answer in again] == [answer.json["id"] for answer in first]


# Risk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}, {"accept_risk": False}, b"{}"])
def test_a_job_that_may_be_paid_is_409_with_what_to_do(api: Api, body: Any) -> None:
    job_id = job_states.given_up(api.harness)

    response = retried(api, job_id, body)

    assert (response.status_code, response.mimetype) == (409, "application/problem+json")
    assert "a retry may pay twice" in response.json["detail"]
    assert 'send {"accept_risk": true}' in response.json["detail"]
    assert api.harness.ledger.overview.size() == 1


def test_who_accepts_the_risk_gets_the_new_job(api: Api) -> None:
    assert retried(api, job_states.given_up(api.harness), {"accept_risk": True}).status_code == 202


def test_a_body_without_a_length_is_read_as_well(api: Api) -> None:
    job_id = job_states.given_up(api.harness)

    response = api.post(
        f"/v1/jobs/{job_id}/retry",
        data=b'{"accept_risk": true}',
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    )

    assert response.status_code == 202


LIVES: dict[str, Callable[[Harness], str]] = {
    "queued": Harness.enqueue,
    "submitting": lambda harness: job_states.submitting(harness).job.id,
    "unconfirmed": job_states.unconfirmed,
    "running": job_states.running,
    "succeeded": job_states.ended,
}


@pytest.mark.parametrize("status", LIVES)
@pytest.mark.parametrize("body", [None, {"accept_risk": True}])
def test_a_job_that_is_not_over_or_succeeded_is_409(api: Api, status: str, body: Any) -> None:
    response = retried(api, LIVES[status](api.harness), body)

    assert response.status_code == 409
    assert response.json["detail"].startswith("it succeeded" if status == "succeeded" else "it is ")
    assert "accept_risk" not in response.json["detail"]
    assert api.harness.ledger.overview.size() == 1


# Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"accept_risk": "true"}, "accept_risk"),
        ({"accept_risk": None}, "accept_risk"),
        ({"accept_risk": [True]}, "accept_risk"),
        ({"accept_risk": {}}, "accept_risk"),
        ({"accept_risc": True}, "accept_risc"),
        ([], "body"),
        (b"null", "body"),
        (b'"yes"', "body"),
    ],
)
def test_an_odd_body_is_refused_by_name(api: Api, body: Any, field: str) -> None:
    response = retried(api, job_states.given_up(api.harness), body)

    assert response.status_code == 422
    assert [error["field"] for error in response.json["errors"]] == [field]
    assert api.harness.ledger.overview.size() == 1


def test_a_body_that_is_no_json_is_400(api: Api) -> None:
    assert retried(api, job_states.refused(api.harness), b"{").status_code == 400


def test_a_body_of_another_type_is_415(api: Api) -> None:
    job_id = job_states.refused(api.harness)

    response = api.post(f"/v1/jobs/{job_id}/retry", data={"accept_risk": "true"})

    assert response.status_code == 415
    assert api.harness.ledger.overview.size() == 1


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense", "%00", "job_" + "9" * 5000])
def test_an_unknown_job_is_404(api: Api, job_id: str) -> None:
    assert retried(api, job_id).status_code == 404


def test_a_provider_that_was_switched_off_is_422(api: Api) -> None:
    job_id = job_states.refused(api.harness)
    harness = api.harness.provider_off()

    response = retried(Api(harness, WebApp(harness.runtime)), job_id)

    assert response.status_code == 422
    assert [error["field"] for error in response.json["errors"]] == ["provider"]


def test_without_a_key_nothing_is_retried(api: Api) -> None:
    job_id = job_states.refused(api.harness)
    api.headers = {}

    assert retried(api, job_id).status_code == 401
    assert api.harness.ledger.overview.size() == 1


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime))

    assert retried(client, "job_" + "0" * 28).status_code == 503


def test_the_specification_tells_what_may_be_sent(api: Api) -> None:
    document = api.app.test_client().get("/openapi.json").json
    assert document is not None

    again = document["paths"]["/v1/jobs/{job_id}/retry"]["post"]

    assert set(again["responses"]) >= {"200", "202"}
    assert (
        document["components"]["schemas"]["Retry"]["properties"]["accept_risk"]["type"] == "boolean"
    )
    assert set(document["paths"]["/v1/jobs/{job_id}/cancel"]["post"]["responses"]) >= {"200"}
