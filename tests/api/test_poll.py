"""`POST /v1/jobs/{id}/poll`, and the command for it."""

from __future__ import annotations

import pytest

from orchestrator.jobs.model import Step
from orchestrator.ledger import Result
from orchestrator.operations.poll_now import MIN_INTERVAL_SECONDS
from tests.api.conftest import Api, settle


def running(api: Api) -> str:
    """A job whose next poll is far away."""
    job_id, harness = api.created(), api.harness
    lease = harness.ledger.claim(job_id, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)
    assert lease
    later = harness.clock() + 600_000
    harness.ledger.accepted(job_id, 1, "task-1", now=harness.clock(), due_at=later)
    return job_id


def test_a_running_job_is_due_and_its_poll_is_nudged(api: Api) -> None:
    job_id = running(api)

    answer = api.post(f"/v1/jobs/{job_id}/poll")

    assert answer.status_code == 202
    assert answer.json is not None
    assert answer.json["id"] == job_id
    assert api.harness.seconds_until_due(job_id) == 0
    assert (Step.POLL, job_id) in api.harness.nudges.sent
    assert [entry.action for entry in api.harness.ledger.audit.entries(1)] == ["poll"]


def test_a_second_request_must_wait(api: Api) -> None:
    job_id = running(api)
    api.post(f"/v1/jobs/{job_id}/poll")
    api.harness.clock.forward(MIN_INTERVAL_SECONDS - 1)

    refused = api.post(f"/v1/jobs/{job_id}/poll")
    api.harness.clock.forward(1)
    again = api.post(f"/v1/jobs/{job_id}/poll")

    assert (refused.status_code, again.status_code) == (429, 202)
    assert refused.headers["Retry-After"] == str(MIN_INTERVAL_SECONDS)
    assert refused.mimetype == "application/problem+json"


@pytest.mark.parametrize("ended", [False, True])
def test_a_job_without_a_task_has_nothing_to_poll(api: Api, ended: bool) -> None:
    job_id = api.created()
    if ended:
        settle(api.harness, job_id)

    answer = api.post(f"/v1/jobs/{job_id}/poll")

    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")


def test_a_poll_that_runs_keeps_its_lease(api: Api) -> None:
    job_id, harness = running(api), api.harness
    harness.clock.forward(600)
    lease = harness.ledger.claim(job_id, Step.POLL, now=harness.clock(), lease_ms=60_000)
    assert lease

    assert api.post(f"/v1/jobs/{job_id}/poll").status_code == 202
    assert harness.seconds_until_due(job_id) == 60
    assert harness.ledger.agenda.poll_now(job_id, now=0, interval_ms=1) is Result.LIMITED
