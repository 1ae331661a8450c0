"""Submissions to a provider that is paused, or whose rate is limited."""

from __future__ import annotations

import pytest

from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import ErrorCode, Status
from orchestrator.jobs.uploads import ImageFile
from orchestrator.ledger import Ledger, ProviderLimits, WaitReason
from orchestrator.steps.submit import submit
from tests.jobs.test_uploads import PNG
from tests.steps.test_submit import ACCEPTED, ESTIMATED, submitted
from tests.support.fakes import Harness, answer
from tests.support.providers import ACCEPTING_FILES, EXAMPLE_REQUESTS

#: EvoLink's documented 503.
DOWN = answer(
    503,
    {
        "error": {
            "code": 503,
            "message": "Service temporarily unavailable",
            "type": "service_unavailable_error",
            "fallback_suggestion": "retry after 30 seconds",
        }
    },
)


def test_a_job_with_little_time_is_sent_although_its_provider_asked_for_a_longer_pause(
    harness: Harness,
) -> None:
    submitted(harness, "evolink", DOWN)
    job_id = submitted(harness, "evolink", ESTIMATED, deadline_seconds=20)
    assert harness.job(job_id).attempts == ()

    harness.clock.forward(10)
    submit(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.RUNNING


def test_a_job_that_waits_until_its_deadline_tells_why(harness: Harness) -> None:
    harness = with_limits(harness, ProviderLimits(max_in_flight=1))
    submitted(harness, "hiapi", ACCEPTED)
    waiting = {"limit of tasks in flight was reached": harness.enqueue()}
    harness.ledger.admission.pause("evolink", by="admin:ada", now=harness.clock(), reason="secret")
    waiting["an operator paused the provider"] = harness.enqueue("evolink")

    harness.clock.forward(harness.runtime.settings.job_deadline_seconds)
    for reason, job_id in waiting.items():
        submit(harness.runtime, job_id)
        error = harness.job(job_id).error

        assert error is not None
        assert error.code is ErrorCode.DEADLINE_EXCEEDED
        assert reason in error.message
        assert "secret" not in error.message


# The rate of a provider -------------------------------------------------------------------------


def with_limits(harness: Harness, limits: ProviderLimits) -> Harness:
    """Return the harness with limits of HiAPI, and a sleep that moves its clock."""
    ledger = Ledger(lambda: harness.redis, limits={"hiapi": limits})
    return harness.with_runtime(ledger=ledger, sleep=harness.clock.forward)


def test_a_submission_waits_for_the_rate_of_its_provider(harness: Harness) -> None:
    harness = with_limits(harness, ProviderLimits(requests_per_second=4))
    begin = harness.clock.now
    harness.provider.answers(
        *(answer(200, {"data": {"taskId": f"task-{number}"}}) for number in range(5))
    )

    for _ in range(5):
        submit(harness.runtime, harness.enqueue())

    assert len(harness.provider.requests) == 5
    assert harness.clock.now == begin + 1000


def test_a_submission_that_would_wait_for_long_is_left_to_a_sweep(harness: Harness) -> None:
    harness = with_limits(harness, ProviderLimits(requests_per_second=0.5))
    harness.provider.answers(ACCEPTED, ACCEPTED)

    for _ in range(3):
        submit(harness.runtime, harness.enqueue())

    assert len(harness.provider.requests) == 1


def test_a_job_whose_file_is_gone_fails_and_is_not_sent(harness: Harness) -> None:
    request = EXAMPLE_REQUESTS[ACCEPTING_FILES[0]]
    file = ImageFile("teal.png", PNG)
    job_id = create_job(harness.runtime, request, scope="tests", file=file).job.id
    harness.ledger.uploads.drop(job_id)

    submit(harness.runtime, job_id)

    error = harness.job(job_id).error
    assert error is not None
    assert (error.code, error.message) == (
        ErrorCode.INVALID_REQUEST,
        "the file of the job is gone",
    )
    assert harness.provider.requests == []


@pytest.mark.parametrize(("status", "found"), [(429, 2), (409, 2), (503, None), (400, None)])
def test_a_refusal_for_load_shows_the_limit_of_the_provider(
    harness: Harness, status: int, found: int | None
) -> None:
    for number in range(2):
        submitted(harness, "hiapi", answer(200, {"data": {"taskId": f"task-{number}"}}))

    submitted(harness, "hiapi", answer(status, {"message": "no"}))

    states = harness.ledger.admission.states(["hiapi"], now=harness.clock())
    assert states["hiapi"].found_limit == found


def test_an_outage_opens_the_circuit_and_jobs_wait(harness: Harness) -> None:
    for _ in range(5):
        submitted(harness, "evolink", None)
        harness.clock.forward(4)
    sent = len(harness.provider.requests)

    job_id = harness.enqueue("evolink")
    submit(harness.runtime, job_id)

    assert len(harness.provider.requests) == sent
    waits = harness.ledger.admission.waits([harness.job(job_id)], now=harness.clock())
    assert waits[job_id].reason is WaitReason.CIRCUIT_OPEN
