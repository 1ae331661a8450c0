"""The confirm step: images of a task whose callback came too late for a poll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import apply_callback, note_unreadable
from orchestrator.jobs.model import (
    ErrorCode,
    FollowUpStatus,
    Image,
    JobError,
    Outcome,
    Status,
    Step,
)
from orchestrator.providers.responses import TaskReport
from orchestrator.steps.confirm import MAX_TRYING_MS, confirm
from orchestrator.steps.evidence import MIN_QUERIES
from tests.steps.test_evidence import LOOK_SECONDS, THIN, task
from tests.steps.test_poll import BROKEN, DONE, FAILED, OUTPUT
from tests.support import job_states
from tests.support.fakes import Answer, Harness, answer

INLINE = task(
    status="success",
    output=[{"url": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="}],
)
LINK = Outcome.succeeded((Image("https://cdn.example.com/0.png"),))
WITH_CONTENT = Outcome.succeeded((Image("", content=b"GIF89a"),))
DEADLINE_EXCEEDED = job_states.failure(ErrorCode.DEADLINE_EXCEEDED)
NO_RESULT = JobError(ErrorCode.GENERATION_FAILED, "a success without a result")
#: What a callback may say about a task that made images, without showing them.
REPORTS = {
    "images inside": TaskReport("task-1", "success", WITH_CONTENT),
    "no result": TaskReport("task-1", "success", thin_success=NO_RESULT),
}


def failed(
    harness: Harness,
    attempts: int = 1,
    outcome: Outcome = DEADLINE_EXCEEDED,
    **fields: Any,
) -> str:
    """Return a job with an outcome. The tasks of its attempts are `task-<number>`."""
    lease = job_states.submitting(harness, **fields)
    job_id, now = lease.job.id, harness.clock.now
    for number in range(1, attempts):
        harness.ledger.requeue(lease, now=now, due_at=now, tries=0, event="resubmitted", detail={})
        lease = job_states.claimed(harness, job_id)
        harness.ledger.accepted(job_id, number, f"task-{number}", now=now, due_at=now)
    harness.ledger.accepted(job_id, attempts, f"task-{attempts}", now=now, due_at=now)
    harness.ledger.settle_attempt(job_id, attempts, f"task-{attempts}", outcome, now=now)
    return job_id


def called_back(harness: Harness, job_id: str, report: TaskReport, attempt: int = 1) -> str:
    report = replace(report, task_id=f"task-{attempt}")
    address = CallbackAddress("hiapi", job_id, attempt)
    apply_callback(harness.runtime, address, report, harness.clock.now)
    return job_id


def confirming(harness: Harness, *answers: Answer | None) -> str:
    """Return a failed job whose callback had images inside. The confirm step gets the answers."""
    harness.provider.answers(*answers)
    return called_back(harness, failed(harness), REPORTS["images inside"])


def confirmed(harness: Harness, *answers: Answer | None) -> str:
    job_id = confirming(harness, *answers)
    confirm(harness.runtime, job_id)
    return job_id


def again(harness: Harness, job_id: str) -> None:
    """Do the confirm step once more, when it is due."""
    state = harness.job(job_id).confirmation
    assert state is not None
    assert state.due_at is not None
    harness.clock.forward(max(0, state.due_at - harness.clock.now) / 1000)
    confirm(harness.runtime, job_id)


def status(harness: Harness, job_id: str) -> FollowUpStatus | None:
    state = harness.job(job_id).confirmation
    return state.status if state else None


# Callbacks that need it -----------------------------------------------------------------------


def check_late_result(harness: Harness, job_id: str) -> None:
    """Check that the confirm step is due, and that it keeps the images of the query."""
    assert (Step.CONFIRM, job_id) in harness.nudges.sent
    confirm(harness.runtime, job_id)

    job = harness.job(job_id)
    assert job.status is Status.FAILED, "the outcome stands"
    assert len(job.late_images) == 1
    assert (Step.ARCHIVE, job_id) in harness.nudges.sent
    assert job.archive is not None
    assert job.notification is not None
    assert job.notification.status is FollowUpStatus.PENDING
    assert (status(harness, job_id), job.confirms_attempts) == (FollowUpStatus.DONE, ())


@pytest.mark.parametrize("kind", REPORTS)
def test_a_late_callback_without_its_images_is_confirmed(harness: Harness, kind: str) -> None:
    harness.provider.answers(DONE)
    job_id = failed(harness, notify_stream="orders")

    check_late_result(harness, called_back(harness, job_id, REPORTS[kind]))


@pytest.mark.parametrize("readable", [True, False])
def test_a_late_callback_that_was_cut_or_unreadable_is_confirmed(
    harness: Harness, *, readable: bool
) -> None:
    harness.provider.answers(DONE)
    job_id = failed(harness, notify_stream="orders")
    address, now = CallbackAddress("hiapi", job_id, 1), harness.clock.now
    if readable:
        report = TaskReport("task-1", "success", LINK)
        apply_callback(harness.runtime, address, report, now, complete=False)
    else:
        note_unreadable(harness.runtime, address, now)

    check_late_result(harness, job_id)


def test_a_late_callback_that_is_only_a_hint_is_confirmed(start: Callable[..., Harness]) -> None:
    harness = start(HIAPI_CONFIRM_CALLBACKS="1")
    harness.provider.answers(DONE)
    job_id = failed(harness, notify_stream="orders")

    check_late_result(harness, called_back(harness, job_id, TaskReport("task-1", "success", LINK)))


def test_an_older_attempt_settles_an_open_job(harness: Harness) -> None:
    harness.provider.answers(DONE)
    lease = job_states.resubmitted(harness)
    job_id, now = lease.job.id, harness.clock.now
    harness.ledger.accepted(job_id, 1, "task-1", now=now, due_at=now)
    called_back(harness, job_id, REPORTS["images inside"])

    confirm(harness.runtime, job_id)

    job = harness.job(job_id)
    assert (job.status, len(job.images), job.late_images) == (Status.SUCCEEDED, 1, ())
    assert status(harness, job_id) is FollowUpStatus.DONE


@pytest.mark.parametrize(
    ("settled_with", "report"),
    [
        (LINK, TaskReport("task-1", "success", LINK)),
        (job_states.failure(), TaskReport("task-1", "fail", job_states.failure())),
        (job_states.failure(), TaskReport("task-1", "handling")),
    ],
    ids=["the same success", "a failure", "no outcome"],
)
def test_other_late_callbacks_are_not_confirmed(
    start: Callable[..., Harness], settled_with: Outcome, report: TaskReport
) -> None:
    harness = start(HIAPI_CONFIRM_CALLBACKS="1")

    job_id = called_back(harness, failed(harness, outcome=settled_with), report)

    assert status(harness, job_id) is None
    assert Step.CONFIRM not in [step for step, _ in harness.nudges.sent]


# The answers ----------------------------------------------------------------------------------


def test_images_inside_the_answer_are_stored(harness: Harness) -> None:
    [image] = harness.job(confirmed(harness, INLINE)).late_images

    assert image.copy is not None
    assert harness.runtime.storage.get(image.copy.path) is not None


def test_a_task_that_failed_has_no_late_result(harness: Harness) -> None:
    job_id = confirmed(harness, FAILED)

    assert status(harness, job_id) is FollowUpStatus.DONE
    assert harness.job(job_id).late_images == ()
    assert harness.job(job_id).done
    assert harness.events(job_id)[-2:] == ["callback", "confirm_done"]


def test_without_a_result_the_task_is_queried_for_a_while(harness: Harness) -> None:
    job_id, began = confirmed(harness, THIN), harness.clock.now
    while status(harness, job_id) is FollowUpStatus.PENDING:
        again(harness, job_id)

    job = harness.job(job_id)
    assert job.confirmation is not None
    assert (job.confirmation.status, job.late_images) == (FollowUpStatus.DEAD, ())
    assert job.confirmation.tries >= MIN_QUERIES
    assert harness.clock.now - began >= LOOK_SECONDS * 1000
    assert harness.ledger.events(job_id)[-1].name == "confirm_dead"


def test_while_the_provider_is_away_it_is_tried_for_a_day(harness: Harness) -> None:
    job_id = confirmed(harness, BROKEN)
    harness.clock.forward(MAX_TRYING_MS / 1000 - 60)
    again(harness, job_id)
    assert status(harness, job_id) is FollowUpStatus.PENDING

    harness.provider.answers(DONE)
    again(harness, job_id)

    assert len(harness.job(job_id).late_images) == 1


def test_after_a_day_without_an_answer_it_is_given_up(harness: Harness) -> None:
    job_id = confirmed(harness, BROKEN)
    harness.clock.forward(MAX_TRYING_MS / 1000)

    again(harness, job_id)

    assert status(harness, job_id) is FollowUpStatus.DEAD


def test_while_our_storage_is_away_the_task_is_queried_again(harness: Harness) -> None:
    away = harness.storage_away().runtime
    job_id = confirming(harness, INLINE)

    confirm(away, job_id)
    state = harness.job(job_id).confirmation
    assert state is not None
    assert state.error
    assert state.error.startswith("our storage: ")
    again(harness, job_id)

    assert len(harness.job(job_id).late_images) == 1


def test_every_attempt_with_a_late_callback_is_queried(harness: Harness) -> None:
    job_id = failed(harness, attempts=2)
    harness.provider.answers(
        DONE,
        answer(200, {"data": {"taskId": "task-2", "status": "success", "output": OUTPUT}}),
    )
    called_back(harness, job_id, REPORTS["images inside"], attempt=1)
    called_back(harness, job_id, REPORTS["images inside"], attempt=2)
    assert harness.job(job_id).confirms_attempts == (1, 2)

    confirm(harness.runtime, job_id)

    assert len(harness.job(job_id).late_images) == 2
    assert [request.path for request in harness.provider.requests] == [
        "/v1/tasks/task-1",
        "/v1/tasks/task-2",
    ]


def test_a_provider_that_is_switched_off_is_queried_later(harness: Harness) -> None:
    job_id = confirming(harness, DONE)

    confirm(harness.provider_off().runtime, job_id)
    assert status(harness, job_id) is FollowUpStatus.PENDING
    again(harness, job_id)

    assert len(harness.job(job_id).late_images) == 1


def test_one_worker_at_a_time_confirms(harness: Harness) -> None:
    job_id = confirming(harness, DONE)
    harness.ledger.follow_ups.claim(job_id, Step.CONFIRM, now=harness.clock.now, lease_ms=60_000)

    confirm(harness.runtime, job_id)

    assert harness.provider.requests == []
