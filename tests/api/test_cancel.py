"""`POST /v1/jobs/{id}/cancel`: a job that was not sent yet is called off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger
from orchestrator.steps.submit import submit
from tests.api.conftest import Api
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.web import WebApp


def test_a_queued_job_is_cancelled_and_shown(api: Api) -> None:
    job_id = api.created()

    response = api.post(f"/v1/jobs/{job_id}/cancel")

    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == api.get(f"/v1/jobs/{job_id}").json
    assert response.json is not None
    assert (response.json["status"], response.json["settled_by"]) == ("cancelled", "cancel")
    assert response.json["error"]["code"] == "cancelled"


def test_a_cancelled_job_is_never_sent(api: Api) -> None:
    job_id = api.created()
    api.post(f"/v1/jobs/{job_id}/cancel")

    submit(api.harness.runtime, job_id)

    assert api.harness.provider.requests == []
    assert api.harness.nudges.sent == [(Step.SUBMIT, job_id)]


def test_cancelling_twice_is_as_good_as_once(api: Api) -> None:
    job_id = api.created()

    first, second = (api.post(f"/v1/jobs/{job_id}/cancel") for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json == first.json
    assert api.harness.events(job_id).count("settled") == 1


LIVES: dict[str, Callable[[Harness], str]] = {
    "submitting": lambda harness: job_states.submitting(harness).job.id,
    "unconfirmed": job_states.unconfirmed,
    "running": job_states.running,
    "succeeded": job_states.ended,
    "failed": job_states.refused,
}


@pytest.mark.parametrize("status", LIVES)
def test_a_job_that_was_sent_is_409_and_goes_on(api: Api, status: str) -> None:
    job_id = LIVES[status](api.harness)
    before = (
        api.harness.job(job_id),
        api.harness.events(job_id),
        api.harness.seconds_until_due(job_id),
    )

    response = api.post(f"/v1/jobs/{job_id}/cancel")

    assert (response.status_code, response.mimetype) == (409, "application/problem+json")
    assert response.json is not None
    assert response.json["detail"] == (f"it is {status}; only a queued job can be cancelled")
    after = (
        api.harness.job(job_id),
        api.harness.events(job_id),
        api.harness.seconds_until_due(job_id),
    )
    assert after == before


def test_a_job_that_waits_for_its_next_try_can_be_cancelled(api: Api) -> None:
    lease, now = job_states.submitting(api.harness), api.harness.clock.now
    api.harness.ledger.requeue(
        lease, event="deferred", detail={}, now=now, due_at=now + 5000, tries=1
    )

    assert api.post(f"/v1/jobs/{lease.job.id}/cancel").status_code == 200
    assert api.harness.seconds_until_due(lease.job.id) is None


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense", "%00", "job_" + "9" * 5000])
def test_an_unknown_job_is_404(api: Api, job_id: str) -> None:
    response = api.post(f"/v1/jobs/{job_id}/cancel")

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_another_method_is_405_and_cancels_nothing(api: Api, method: str) -> None:
    job_id = api.created()

    response = getattr(api.app.test_client(), method)(
        f"/v1/jobs/{job_id}/cancel", headers=api.headers
    )

    assert response.status_code == 405
    assert api.harness.job(job_id).settled_at is None


def test_without_a_key_nothing_is_cancelled(api: Api) -> None:
    job_id = api.created()
    api.headers = {}

    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 401
    assert api.harness.job(job_id).settled_at is None


def test_a_body_is_of_no_matter(api: Api) -> None:
    response = api.post(
        f"/v1/jobs/{api.created()}/cancel", data=b"no JSON", content_type="text/plain"
    )

    assert response.status_code == 200


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime))

    response = client.post("/v1/jobs/job_" + "0" * 28 + "/cancel")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
