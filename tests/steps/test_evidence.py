"""A final failure needs evidence: thin successes, forgotten tasks and odd last answers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import pytest

from orchestrator.backoff import NOT_FOUND_POLLS, NOT_FOUND_TOLERANCE_SECONDS
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import apply_callback
from orchestrator.jobs.model import (
    Copy,
    ErrorCode,
    Image,
    JobError,
    Outcome,
    SettledBy,
    Status,
    Step,
)
from orchestrator.net.http_types import Reply
from orchestrator.operations import inline_images
from orchestrator.operations.image_copies import CheckedFile, store_file
from orchestrator.operations.rerun import may_be_paid
from orchestrator.providers.responses import Accepted, TaskReport
from orchestrator.runtime import Runtime
from orchestrator.steps import acceptance
from orchestrator.steps.archive import archive
from orchestrator.steps.poll import poll
from orchestrator.storage.storage import Bundle
from tests.steps.test_poll import DONE, HANDLING, UNKNOWN, again, polled, running
from tests.support import job_states
from tests.support.fakes import Answer, Harness, answer

LOOK_SECONDS = 300
REASON = {"code": "content_policy_violation", "message": "no cubes"}


def task(**fields: object) -> Answer:
    return answer(200, {"data": {"taskId": "task-1", **fields}})


THIN = task(status="success", output=None)
REFUSED = task(status="success", output=[], error=REASON)
FAILED = task(status="failed", error=REASON)


def polled_until(harness: Harness, job_id: str, seconds: float) -> int:
    """Poll at the agenda's times until the job ends or the time has passed. Count the polls."""
    ends, polls = harness.clock.now + int(seconds * 1000), 0
    while not harness.job(job_id).status.terminal and harness.clock.now < ends:
        again(harness, job_id)
        polls += 1
    return polls


# A success without a result -------------------------------------------------------------------


def test_a_result_that_comes_later_is_found(harness: Harness) -> None:
    job_id = polled(harness, THIN, THIN, HANDLING, THIN, DONE)
    assert harness.job(job_id).status is Status.RUNNING

    polled_until(harness, job_id, LOOK_SECONDS)

    assert harness.job(job_id).status is Status.SUCCEEDED


def test_after_five_minutes_it_fails_with_the_providers_reason_and_may_be_paid(
    harness: Harness,
) -> None:
    began = harness.clock.now
    job_id = polled(harness, REFUSED)

    polls = polled_until(harness, job_id, 10 * LOOK_SECONDS)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert (job.error.code, job.error.message) == (ErrorCode.CONTENT_POLICY, "no cubes")
    assert harness.clock.now - began == LOOK_SECONDS * 1000
    assert 5 < polls < 50
    assert may_be_paid(job)


def test_a_task_that_is_unknown_after_a_success_fails_with_the_reason_of_the_success(
    harness: Harness,
) -> None:
    job_id = polled(harness, REFUSED, *[answer(404, {"message": "no such task"})] * 100)

    polled_until(harness, job_id, 10 * LOOK_SECONDS)

    job = harness.job(job_id)
    assert job.error is not None
    assert (job.error.code, job.error.message) == (ErrorCode.CONTENT_POLICY, "no cubes")
    assert may_be_paid(job)


def test_it_is_looked_for_after_the_deadline_too_but_not_for_ever(harness: Harness) -> None:
    job_id = running(harness, THIN, deadline_seconds=60)
    harness.clock.forward(60)

    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.RUNNING
    polled_until(harness, job_id, 10 * LOOK_SECONDS)

    job = harness.job(job_id)
    assert job.status is Status.FAILED
    assert (job.settled_at or 0) - job.deadline_at == LOOK_SECONDS * 1000


def test_the_setting_limits_the_time_and_the_provider_is_asked_twice_at_least(
    start: Callable[..., Harness],
) -> None:
    harness = start(ORCHESTRATOR_THIN_SUCCESS_SECONDS="0")
    job_id = polled(harness, THIN, DONE)
    assert harness.job(job_id).status is Status.RUNNING

    again(harness, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED


def test_a_paused_provider_is_asked_often_enough_before_the_failure(harness: Harness) -> None:
    job_id = polled(harness, THIN, THIN, DONE)
    harness.clock.forward(2 * LOOK_SECONDS - 10)  # its polls were paused

    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.RUNNING
    again(harness, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED


def test_a_callback_without_a_result_makes_a_poll_due_at_once(harness: Harness) -> None:
    job_id = running(harness, DONE)
    harness.clock.forward(-1)
    thin = TaskReport("task-1", "success", thin_success=JobError(ErrorCode.UNKNOWN, "nothing"))

    apply_callback(harness.runtime, CallbackAddress("hiapi", job_id, 1), thin, harness.clock())

    assert harness.seconds_until_due(job_id) == 0
    assert (Step.POLL, job_id) in harness.nudges.sent
    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.SUCCEEDED


def test_an_unreachable_provider_ends_the_look_with_the_first_reason(harness: Harness) -> None:
    job_id = polled(harness, REFUSED, None)

    polled_until(harness, job_id, 10 * LOOK_SECONDS)

    error = harness.job(job_id).error
    assert error is not None
    assert error.code is ErrorCode.CONTENT_POLICY


# A task that the provider does not know -------------------------------------------------------


def test_not_found_is_final_when_it_is_repeated_over_minutes(start: Callable[..., Harness]) -> None:
    harness = start(ORCHESTRATOR_PUBLIC_URL=None)
    job_id = polled(harness, HANDLING, UNKNOWN)
    harness.clock.forward(10 * NOT_FOUND_TOLERANCE_SECONDS)
    began = harness.clock.now
    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.RUNNING

    polls = polled_until(harness, job_id, 3000)

    job = harness.job(job_id)
    assert job.error is not None
    assert job.error.code is ErrorCode.NOT_FOUND
    assert polls >= NOT_FOUND_POLLS - 1
    assert harness.clock.now - began >= NOT_FOUND_TOLERANCE_SECONDS * 1000
    assert may_be_paid(job)


def test_one_not_found_between_other_answers_does_not_count(
    start: Callable[..., Harness],
) -> None:
    harness = start(ORCHESTRATOR_PUBLIC_URL=None)
    harness.clock.forward(1)
    job_id = polled(harness, *[UNKNOWN, HANDLING] * 20, DONE)

    polled_until(harness, job_id, 3000)

    assert harness.job(job_id).status is Status.SUCCEEDED


# The last answer before the deadline ----------------------------------------------------------


def test_an_unknown_state_with_links_is_a_success_at_the_deadline(harness: Harness) -> None:
    links = [{"url": "https://cdn.example.com/0.png"}]
    job_id = polled(harness, task(status="fertig", output=links), deadline_seconds=60)
    assert harness.job(job_id).status is Status.RUNNING

    polled_until(harness, job_id, 100)

    job = harness.job(job_id)
    assert (job.status, [each.source_url for each in job.images]) == (
        Status.SUCCEEDED,
        ["https://cdn.example.com/0.png"],
    )


def test_an_adapter_that_raises_does_not_keep_the_job_open(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = running(harness, HANDLING, deadline_seconds=60)

    def broken(*_: object) -> None:
        raise KeyError("a prompt that must not be shown")

    monkeypatch.setattr(type(harness.runtime.providers["hiapi"]), "read_task", broken)
    poll(harness.runtime, job_id)
    polled_until(harness, job_id, 100)

    error = harness.job(job_id).error
    assert error is not None
    assert error.code is ErrorCode.UNKNOWN
    assert "KeyError" in error.message
    assert any("KeyError" in str(event.detail) for event in harness.ledger.events(job_id))
    assert "a prompt" not in str(harness.ledger.events(job_id))


# Images inside the answer ---------------------------------------------------------------------


def test_images_inside_an_answer_wait_for_our_storage(harness: Harness) -> None:
    job_id = running(harness, HANDLING)
    inline = TaskReport(
        "task-1", "success", Outcome.succeeded((Image("", content=b"\x89PNG\r\n\x1a\n"),))
    )
    address = CallbackAddress("hiapi", job_id, 1)

    apply_callback(harness.runtime, address, inline, harness.clock())

    assert harness.job(job_id).status is Status.RUNNING
    assert harness.seconds_until_due(job_id) == 0


def test_while_our_storage_is_away_the_job_is_polled_again(harness: Harness) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away = harness.storage_away().runtime
    job_id = running(harness, task(status="success", output=[{"url": data}]))

    poll(away, job_id)
    assert harness.job(job_id).status is Status.RUNNING
    again(harness, job_id)

    [image] = harness.job(job_id).images
    assert image.copy is not None
    assert (image.source_url, image.content) == ("", None)


def test_when_our_storage_stays_away_the_success_stands_with_the_reason(harness: Harness) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away = harness.storage_away().runtime
    job_id = running(harness, task(status="success", output=[{"url": data}]), deadline_seconds=60)
    harness.clock.forward(60 + LOOK_SECONDS)

    poll(away, job_id)

    job = harness.job(job_id)
    [image] = job.images
    assert job.status is Status.SUCCEEDED
    assert (image.copy, image.source_url, image.content) == (None, "", None)
    assert image.error
    assert image.error.startswith("our storage: ")


def test_an_image_that_our_storage_lost_keeps_the_reason(harness: Harness) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    link = "https://cdn.provider.example/image.png"
    away = harness.storage_away().runtime
    output = [{"url": data}, {"url": link}]
    job_id = running(harness, task(status="success", output=output), deadline_seconds=60)
    harness.clock.forward(60 + LOOK_SECONDS)
    poll(away, job_id)

    archive(harness.runtime, job_id)

    lost, other = harness.job(job_id).images
    assert lost.given_up
    assert (lost.error or "").startswith("our storage: ")
    assert not other.given_up


@pytest.mark.parametrize(
    "later",
    [Answer(404), Answer(503), task(status="running"), THIN, task(status="expired"), FAILED],
    ids=["forgotten", "away", "running", "thin", "expired", "failed"],
)
def test_a_success_that_our_storage_did_not_take_never_becomes_a_failure(
    harness: Harness, later: Answer
) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away = harness.storage_away().runtime
    success = task(status="success", output=[{"url": data}])
    job_id = running(harness, success, deadline_seconds=600)
    poll(away, job_id)

    harness.provider.handler = lambda _: later
    polled_until(harness, job_id, 600 + LOOK_SECONDS - 60)
    assert harness.job(job_id).status is Status.RUNNING
    polled_until(harness, job_id, 3600)

    job = harness.job(job_id)
    assert job.status is Status.SUCCEEDED
    assert [(image.given_up, (image.error or "")[:13]) for image in job.images] == [
        (True, "our storage: ")
    ]


def test_a_success_is_stored_when_our_storage_is_back_after_the_deadline(harness: Harness) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away = harness.storage_away().runtime
    success = task(status="success", output=[{"url": data}])
    job_id = running(harness, success, deadline_seconds=60)
    poll(away, job_id)
    harness.provider.handler = lambda _: Answer(503)
    polled_until(harness, job_id, 61)
    assert harness.job(job_id).status is Status.RUNNING

    harness.provider.handler = lambda _: success
    polled_until(harness, job_id, 60 + LOOK_SECONDS)

    [image] = harness.job(job_id).images
    assert image.copy is not None


def test_after_the_deadline_our_storage_is_waited_for_as_a_result_is(harness: Harness) -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away = harness.storage_away().runtime
    success = task(status="success", output=[{"url": data}])
    job_id = running(harness, success, deadline_seconds=60)
    harness.clock.forward(60 + LOOK_SECONDS - 1)

    poll(away, job_id)

    assert harness.job(job_id).status is Status.RUNNING


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "the prompt was refused")),
        Outcome(Status.CANCELLED, error=JobError(ErrorCode.CANCELLED, "at the provider")),
    ],
    ids=["failed", "cancelled"],
)
@pytest.mark.parametrize("is_submission", [False, True])
def test_a_callback_does_not_end_a_success_that_our_storage_did_not_take(
    harness: Harness, outcome: Outcome, is_submission: bool
) -> None:
    """The success was seen in the answer to a submission, or to a poll."""
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    away, success = harness.storage_away().runtime, task(status="success", output=[{"url": data}])
    if is_submission:
        harness.provider.handler = lambda _: success
        image = Image("", content=b"\x89PNG\r\n\x1a\n")
        job_id = accepted(away, harness, Accepted("task-1", outcome=Outcome.succeeded((image,))))
    else:
        job_id = running(harness, success)
        poll(away, job_id)
    report = TaskReport("task-1", outcome.status, outcome)

    apply_callback(harness.runtime, CallbackAddress("hiapi", job_id, 1), report, harness.clock())

    assert harness.job(job_id).status is Status.RUNNING
    assert harness.seconds_until_due(job_id) == 0
    poll(harness.runtime, job_id)
    [stored] = harness.job(job_id).images
    assert stored.copy is not None


def test_a_success_without_a_result_in_the_answer_to_a_submission_is_looked_for(
    harness: Harness,
) -> None:
    error = JobError(ErrorCode.GENERATION_FAILED, "no result", retryable=True)
    job_id = accepted(harness.runtime, harness, Accepted("task-1", thin_success=error))
    report = TaskReport("task-1", "failed", Outcome.failed(JobError(ErrorCode.UNKNOWN, "odd")))

    apply_callback(harness.runtime, CallbackAddress("hiapi", job_id, 1), report, harness.clock())

    assert harness.job(job_id).status is Status.RUNNING
    harness.provider.handler = lambda _: DONE
    poll(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.SUCCEEDED


@pytest.mark.parametrize("is_submission", [False, True])
def test_storing_for_longer_than_the_lease_brings_in_no_second_worker(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, is_submission: bool
) -> None:
    """Otherwise it would store the same, or send an attempt again that was paid for."""
    images = [Image("", content=b"\x89PNG\r\n\x1a\n" + bytes([n])) for n in range(4)]
    links = [f"data:image/png;base64,{b64encode(i.content or b'').decode()}" for i in images]
    success = task(status="success", output=[{"url": link} for link in links])
    seen = list[tuple[Status, list[tuple[str, Step]]]]()

    def slowly_stored(runtime: Runtime, bundle: Bundle, stem: str, file: CheckedFile) -> Copy:
        harness.clock.forward(60)
        due = harness.ledger.agenda.due(0, now=harness.clock.now, limit=9)
        seen.append((harness.job(stem.split("/")[-2]).status, due))
        return store_file(runtime, bundle, stem, file)

    monkeypatch.setattr(inline_images, "store_file", slowly_stored)
    if is_submission:
        outcome = Outcome.succeeded(tuple(images))
        job_id = accepted(harness.runtime, harness, Accepted("task-1", outcome=outcome))
    else:
        job_id = running(harness, success)
        poll(harness.runtime, job_id)

    assert seen == [(Status.RUNNING, [])] * 4
    job = harness.job(job_id)
    assert (job.status, len(job.images)) == (Status.SUCCEEDED, 4)
    assert all(image.copy for image in job.images)


def accepted(runtime: Runtime, harness: Harness, reading: Accepted) -> str:
    """Submit a job, and record what its provider answered. Return its id."""
    job = job_states.submitting(harness).job
    acceptance.record(runtime, job, 1, Reply(200, {}, b""), reading)
    return job.id
