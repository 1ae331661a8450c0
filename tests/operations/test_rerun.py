"""Retries of a job: one new job with the same request, and no second charge by surprise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import (
    Attempt,
    ErrorCode,
    Image,
    Job,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.operations.rerun import MayBePaid, NotRetryable, may_be_paid, retry
from tests.jobs.test_uploads import PNG
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.providers import ACCEPTING_FILES, EXAMPLE_REQUESTS


def again(harness: Harness, job_id: str, **options: Any) -> Job:
    return retry(harness.runtime, harness.job(job_id), actor="tests", **options).job


def overdue(harness: Harness) -> str:
    """Return a job that its provider accepted and did not finish before the deadline."""
    return job_states.ended(harness, job_states.failure(ErrorCode.DEADLINE_EXCEEDED))


def bought_twice(harness: Harness) -> str:
    """Return a job with an unconfirmed first attempt and a refused second attempt."""
    lease = job_states.resubmitted(harness)
    now = harness.clock.now
    harness.ledger.settle(lease, job_states.failure(), SettledBy.SUBMIT, now=now)
    return lease.job.id


@pytest.mark.parametrize(
    "life",
    [
        job_states.refused,
        job_states.cancelled,
        lambda harness: job_states.ended(harness, job_states.failure()),
    ],
)
def test_a_job_that_failed_or_was_cancelled_becomes_a_new_job(
    harness: Harness, life: Callable[[Harness], str]
) -> None:
    job_id = life(harness)
    harness.clock.forward(60)
    harness.nudges.sent.clear()

    new = again(harness, job_id)

    assert new.id != job_id
    assert new == harness.job(new.id)
    assert (new.status, new.request) == (Status.QUEUED, harness.job(job_id).request)
    assert new.created_at == harness.clock.now
    assert new.deadline_at == harness.clock.now + 3_600_000
    assert harness.nudges.sent == [(Step.SUBMIT, new.id)]


# Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "reason"),
    [
        (Harness.enqueue, "it is queued "),
        (lambda harness: job_states.submitting(harness).job.id, "it is submitting "),
        (job_states.unconfirmed, "it is unconfirmed "),
        (job_states.running, "it is running "),
        (job_states.ended, "it succeeded"),
    ],
)
@pytest.mark.parametrize("accept_risk", [False, True])
def test_an_open_or_succeeded_job_is_not_retried(
    harness: Harness, life: Callable[[Harness], str], reason: str, accept_risk: bool
) -> None:
    job_id = life(harness)

    with pytest.raises(NotRetryable, match=f"^{reason}") as refused:
        again(harness, job_id, accept_risk=accept_risk)

    assert not isinstance(refused.value, MayBePaid)
    assert harness.ledger.overview.size() == 1


@pytest.mark.parametrize("life", [job_states.given_up, overdue, bought_twice])
def test_a_job_that_may_be_paid_is_retried_only_with_accepted_risk(
    harness: Harness, life: Callable[[Harness], str]
) -> None:
    job_id = life(harness)

    with pytest.raises(MayBePaid, match="a retry may pay twice"):
        again(harness, job_id)
    assert harness.ledger.overview.size() == 1

    assert again(harness, job_id, accept_risk=True).status is Status.QUEUED


def test_a_job_with_a_file_is_not_retried(harness: Harness) -> None:
    request = EXAMPLE_REQUESTS[ACCEPTING_FILES[0]]
    file = ImageFile("teal.png", PNG)
    job_id = create_job(harness.runtime, request, scope="tests", file=file).job.id
    harness.ledger.cancel(job_id, now=harness.clock.now)

    with pytest.raises(NotRetryable, match="its file was not kept"):
        again(harness, job_id, accept_risk=True)


def test_a_job_of_a_disabled_provider_is_refused_and_nothing_is_stored(
    harness: Harness,
) -> None:
    job_id = job_states.refused(harness)

    with pytest.raises(InvalidRequest, match="HIAPI_API_KEY"):
        again(harness.provider_off(), job_id)

    assert harness.ledger.overview.size() == 1


# Whether it may be paid --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "task", "resubmitted", "paid"),
    [
        (ErrorCode.CONTENT_POLICY, "task-1", False, False),
        (ErrorCode.CONTENT_POLICY, "task-1", True, True),
        (ErrorCode.DEADLINE_EXCEEDED, None, False, False),
        (ErrorCode.DEADLINE_EXCEEDED, "task-1", False, True),
        (ErrorCode.SUBMISSION_UNCONFIRMED, None, False, True),
        (ErrorCode.CANCELLED, None, True, True),
    ],
)
def test_what_may_be_paid(
    harness: Harness, code: ErrorCode, task: str | None, resubmitted: bool, paid: bool
) -> None:
    job = replace(
        harness.job(job_states.refused(harness)),
        error=job_states.failure(code).error,
        attempts=(Attempt(1, harness.clock.now, task), Attempt(2, harness.clock.now)),
        resubmitted=resubmitted,
    )

    assert may_be_paid(job) is paid


# Once --------------------------------------------------------------------------------------


def test_a_second_retry_returns_the_same_job_to_every_caller(harness: Harness) -> None:
    job_id = job_states.refused(harness)

    first = retry(harness.runtime, harness.job(job_id), actor="api:one")
    second = retry(harness.runtime, harness.job(job_id), actor="cli")

    assert (first.replayed, second.replayed) == (False, True)
    assert second.job.id == first.job.id
    assert harness.ledger.overview.size() == 2


def test_a_callers_idempotency_key_is_not_the_key_of_a_retry(harness: Harness) -> None:
    job_id = job_states.refused(harness)
    other = create_job(
        harness.runtime, EXAMPLE_REQUESTS["evolink"], scope="api:tests", key=job_id
    ).job

    assert again(harness, job_id).id != other.id


def test_a_retry_that_failed_can_be_retried_itself(harness: Harness) -> None:
    first = job_states.refused(harness)
    second = again(harness, first)
    harness.ledger.cancel(second.id, now=harness.clock.now)

    third = again(harness, second.id)

    assert third.id not in (first, second.id)
    assert third.request == second.request


# The request of the new job -------------------------------------------------------------------

REQUESTS: dict[str, dict[str, Any]] = {
    "every unified field": {
        "provider": "hiapi",
        "model": "Nano-Banana-2",
        "prompt": "  A red cube\n",
        "images": ["https://images.example/a.png"],
        "aspect_ratio": "16:9",
        "resolution": "2K",
        "output_format": "png",
        "n": 1,
    },
    "a family": {"provider": "hiapi", "model": "nano-banana-2", "prompt": "x", "resolution": "2K"},
    "provider_options": {
        "provider": "evolink",
        "model": "nano-banana-2",
        "prompt": "x",
        "provider_options": {"size": "16:9", "quality": "4K"},
    },
    "native": {
        "provider": "evolink",
        "model": "nano-banana-2-lite",
        "request": {"model": "nano-banana-2-lite", "prompt": "x", "size": "16:9"},
    },
    "all the rest": {
        **EXAMPLE_REQUESTS["hiapi"],
        "metadata": {"order": [1, {"two": None}]},
        "deadline_seconds": 90.5,
        "on_unconfirmed": "resubmit",
        "fallback": [{"provider": "evolink", "model": "nano-banana-2"}],
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_whole_request_is_carried_over(harness: Harness, name: str) -> None:
    job_id = create_job(harness.runtime, REQUESTS[name], scope="tests").job.id
    harness.ledger.cancel(job_id, now=harness.clock.now)

    new = harness.job(again(harness, job_id).id)

    assert new.request == harness.job(job_id).request
    assert new.deadline_at - new.created_at == REQUESTS[name].get("deadline_seconds", 3600) * 1000


@pytest.mark.parametrize("kind", ["thin_success", "not_found"])
def test_a_failure_that_the_provider_did_not_report_may_be_paid(
    harness: Harness, kind: Literal["thin_success", "not_found"]
) -> None:
    error = job_states.failure(ErrorCode.GENERATION_FAILED).error
    assert error is not None
    job = replace(
        harness.job(job_states.refused(harness)),
        error=error,
        attempts=(Attempt(1, harness.clock.now, "task-1"),),
    )

    assert not may_be_paid(job)
    pending = PendingFailure(error, harness.clock.now, 2, kind)
    assert may_be_paid(replace(job, pending_failure=pending))


def test_a_job_with_late_images_is_paid(harness: Harness) -> None:
    job = harness.job(job_states.refused(harness))

    assert may_be_paid(replace(job, late_images=(Image("https://cdn.example/0.png"),)))


def test_a_retry_is_in_the_audit_trail_once(harness: Harness) -> None:
    job_id = job_states.refused(harness)

    new = again(harness, job_id)
    [entry] = harness.ledger.audit.entries(9)
    again(harness, job_id)

    assert harness.ledger.audit.entries(9) == [entry]
    assert (entry.action, entry.target, entry.detail["new_job"]) == ("retry", job_id, new.id)
