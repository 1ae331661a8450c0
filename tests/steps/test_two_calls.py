"""Polls of a provider whose query has the state alone: a second call gets the result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.jobs.model import ErrorCode, SettledBy, Status, Step
from orchestrator.ledger import Lease
from orchestrator.steps.poll import poll
from orchestrator.steps.query import query_lease_ms
from orchestrator.steps.submit import call_ms, lease_ms
from tests.support.fakes import Answer, Harness, ReceivedRequest, answer

MODEL = "fal-ai/flux/schnell"
QUERY = "/fal-ai/flux/requests/task-1"
RUNNING = answer(202, {"status": "IN_PROGRESS", "request_id": "task-1"})
COMPLETED = answer(200, {"status": "COMPLETED", "request_id": "task-1"})
OUTPUT = answer(200, {"images": [{"url": "https://cdn.example.com/0.png"}]})
REFUSED = answer(422, {"detail": [{"loc": ["body"], "msg": "no", "type": "no_media_generated"}]})


def polled(harness: Harness, *answers: Answer | None) -> str:
    """A running job of fal that was polled once."""
    harness.provider.answers(*answers)
    job_id, now = harness.enqueue("fal", model=MODEL), harness.clock()
    harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    harness.ledger.accepted(job_id, 1, "task-1", now=now, due_at=now)
    poll(harness.runtime, job_id)
    return job_id


def paths(harness: Harness) -> list[str]:
    return [request.path for request in harness.provider.requests]


def test_the_second_call_gets_the_result(harness: Harness) -> None:
    job = harness.job(polled(harness, COMPLETED, OUTPUT))

    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.POLL)
    assert [image.source_url for image in job.images] == ["https://cdn.example.com/0.png"]
    assert paths(harness) == [f"{QUERY}/status", QUERY]
    assert {each.headers["authorization"].split()[0] for each in harness.provider.requests} == {
        "Key"
    }


def test_the_second_call_gets_the_models_error(harness: Harness) -> None:
    job = harness.job(polled(harness, COMPLETED, REFUSED))

    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.GENERATION_FAILED


def test_a_task_on_its_way_is_asked_for_once(harness: Harness) -> None:
    job = harness.job(polled(harness, RUNNING))

    assert job.status is Status.RUNNING
    assert paths(harness) == [f"{QUERY}/status"]


def test_the_lease_covers_both_calls(harness: Harness) -> None:
    claims = []

    def slow(request: ReceivedRequest) -> Answer:
        """Answer the second call when both calls have taken their longest time."""
        if request.path != QUERY:
            return COMPLETED
        harness.clock.forward((lease_ms(harness.runtime) + call_ms(harness.runtime)) / 1000 - 1)
        now = harness.clock()
        claims.append(harness.ledger.claim(job_id, Step.POLL, now=now, lease_ms=1000))
        return OUTPUT

    job_id = polled(harness, RUNNING)
    harness.provider.handler = slow
    harness.clock.forward(harness.seconds_until_due(job_id) or 0)
    poll(harness.runtime, job_id)

    assert not any(isinstance(each, Lease) for each in claims)
    assert len(claims) == 1
    assert harness.job(job_id).status is Status.SUCCEEDED


def test_a_provider_with_one_call_has_a_shorter_lease(harness: Harness) -> None:
    runtime = harness.runtime
    providers = dict(runtime.settings.providers)
    del providers["fal"]
    without = replace(runtime, settings=replace(runtime.settings, providers=providers))

    assert query_lease_ms(without) == lease_ms(runtime)
    assert query_lease_ms(runtime) == lease_ms(runtime) + call_ms(runtime)


@pytest.mark.parametrize("second", [None, answer(502, {}), answer(200, []), answer(401, {})])
def test_a_result_that_does_not_come_is_asked_for_again(
    harness: Harness, second: Answer | None
) -> None:
    job_id = polled(harness, COMPLETED, second)
    assert harness.job(job_id).status is Status.RUNNING

    harness.provider.answers(COMPLETED, OUTPUT)
    harness.clock.forward(harness.seconds_until_due(job_id) or 0)
    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.SUCCEEDED
