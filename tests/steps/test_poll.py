"""The poll step: the state of a task without a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.backoff import NOT_FOUND_TOLERANCE_SECONDS
from orchestrator.jobs.model import ErrorCode, Image, Outcome, SettledBy, Status, Step
from orchestrator.steps.poll import poll
from orchestrator.steps.query import SWITCHED_OFF_SECONDS
from tests.support.fakes import API_KEY, Answer, Harness, ReceivedRequest, answer

HANDLING = answer(200, {"code": 200, "data": {"taskId": "task-1", "status": "handling"}})
OUTPUT = [{"url": "https://cdn.example.com/0.png"}]
DONE = answer(200, {"data": {"taskId": "task-1", "status": "success", "output": OUTPUT}})
FAILED = answer(200, {"data": {"taskId": "task-1", "status": "fail", "error": {"message": "no"}}})
UNKNOWN = answer(404, {"message": "no such task"})
BROKEN = answer(500, {"code": 500, "message": "broken"})


def running(harness: Harness, *answers: Answer | None, **fields: Any) -> str:
    """A job whose provider task is known, due now."""
    harness.provider.answers(*(answers or (HANDLING,)))
    job_id, now = harness.enqueue(**fields), harness.clock()
    harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    harness.ledger.accepted(job_id, 1, "task-1", now=now, due_at=now)
    return job_id


def polled(harness: Harness, *answers: Answer | None, **fields: Any) -> str:
    """A running job that was polled once."""
    job_id = running(harness, *answers, **fields)
    poll(harness.runtime, job_id)
    return job_id


def again(harness: Harness, job_id: str) -> None:
    """Poll once more, at the moment the agenda says."""
    wait = harness.seconds_until_due(job_id)
    assert wait is not None
    harness.clock.forward(wait)
    poll(harness.runtime, job_id)


# News ----------------------------------------------------------------------------------------


def test_a_poll_queries_the_task_with_our_api_key(harness: Harness) -> None:
    polled(harness)

    [request] = harness.provider.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/tasks/task-1", b"")
    assert request.headers["authorization"] == f"Bearer {API_KEY}"


def test_a_success_settles_the_job_with_its_images(harness: Harness) -> None:
    job_id = polled(harness, DONE)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.POLL)
    assert [image.source_url for image in job.images] == ["https://cdn.example.com/0.png"]
    assert harness.seconds_until_due(job_id) is None


def test_a_failure_settles_the_job_with_the_providers_message(harness: Harness) -> None:
    job = harness.job(polled(harness, FAILED))

    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert job.error.message == "no"


def test_an_unfinished_task_is_polled_again(harness: Harness) -> None:
    job_id = polled(harness, HANDLING)

    job = harness.job(job_id)
    assert (job.status, job.tries) == (Status.RUNNING, 1)
    assert harness.seconds_until_due(job_id) == 3
    assert harness.ledger.events(job_id)[-1].detail == {"state": "handling"}


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (0.5, 1.05), (1.0, 1.1)])
def test_the_wait_between_polls_grows_with_the_time_of_the_task_up_to_the_ceiling(
    harness: Harness, chance: float, factor: float
) -> None:
    harness.chance.number = chance
    job_id = polled(harness, HANDLING)
    waits, expected, elapsed = [], [], 0.0
    for _ in range(10):
        waits.append(harness.seconds_until_due(job_id))
        expected.append(factor * max(3.0, min(0.6 * elapsed, 30.0)))
        elapsed += expected[-1]
        again(harness, job_id)

    assert waits == pytest.approx(expected, abs=0.02)
    assert waits[-1] == 30 * factor


def test_the_wait_after_a_failed_query_doubles(harness: Harness) -> None:
    job_id = polled(harness, BROKEN)
    waits = []
    for _ in range(5):
        waits.append(harness.seconds_until_due(job_id))
        again(harness, job_id)

    assert waits == [3, 6, 12, 24, 30]


def test_a_providers_own_intervals_can_be_set(start: Callable[..., Harness]) -> None:
    harness = start(HIAPI_POLL_SECONDS="8", HIAPI_MAX_POLL_SECONDS="10")
    job_id = polled(harness, HANDLING)
    first = harness.seconds_until_due(job_id)

    again(harness, job_id)
    again(harness, job_id)

    second = harness.seconds_until_due(job_id)
    again(harness, job_id)

    assert (first, second) == (8, 9.6)
    assert harness.seconds_until_due(job_id) == 10


def test_a_job_that_is_not_due_or_is_leased_is_not_polled(harness: Harness) -> None:
    job_id = polled(harness, HANDLING)
    leased, queued = running(harness, HANDLING), harness.enqueue()
    harness.ledger.claim(leased, Step.POLL, now=harness.clock(), lease_ms=60_000)
    harness.provider.requests.clear()

    for each in (job_id, leased, queued, "job_" + "0" * 28):
        poll(harness.runtime, each)

    assert harness.provider.requests == []


def test_the_poll_of_a_killed_worker_is_repeated(harness: Harness) -> None:
    job_id = running(harness, DONE)
    harness.ledger.claim(job_id, Step.POLL, now=harness.clock(), lease_ms=60_000)

    again(harness, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED


def test_a_callback_during_the_poll_wins(harness: Harness) -> None:
    job_id = running(harness)
    callback = Outcome.succeeded((Image("https://e.example/callback.png"),))

    def overtaken(_: ReceivedRequest) -> Answer:
        harness.ledger.settle_attempt(job_id, 1, "task-1", callback, now=harness.clock())
        return DONE

    harness.provider.handler = overtaken
    poll(harness.runtime, job_id)

    job = harness.job(job_id)
    assert job.settled_by is SettledBy.CALLBACK
    assert job.images == callback.images


# QueryFailed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [BROKEN, Answer(502, b"<html>"), Answer(200, b"[]"), None, answer(401, {"message": "who?"})],
    ids=["500", "502", "2xx without a task", "connection dropped", "401"],
)
def test_a_failed_query_is_repeated(harness: Harness, failure: Answer | None) -> None:
    job_id = polled(harness, failure, DONE)
    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (Status.RUNNING, 3)

    again(harness, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED


def test_a_provider_that_cannot_be_reached_is_polled_again(start: Callable[..., Harness]) -> None:
    harness = start(HIAPI_BASE_URL="http://127.0.0.1:1")

    job_id = polled(harness)

    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (Status.RUNNING, 3)


def test_retry_after_is_followed(harness: Harness) -> None:
    response = answer(429, {"message": "slow down"}, Retry_After="21")

    assert harness.seconds_until_due(polled(harness, response)) == 21


def test_an_answer_about_another_task_is_ignored(harness: Harness) -> None:
    other = answer(200, {"data": {"taskId": "task-2", "status": "success", "output": OUTPUT}})

    job_id = polled(harness, other)

    job = harness.job(job_id)
    assert (job.status, job.attempt.task_id) == (Status.RUNNING, "task-1")
    assert "task-2" in harness.ledger.events(job_id)[-1].detail["state"]


# Not found -----------------------------------------------------------------------------------


def test_not_found_is_tolerated_for_a_time_and_then_final(behind_nat: Harness) -> None:
    harness = behind_nat
    job_id = polled(harness, UNKNOWN)
    while not harness.job(job_id).status.terminal:
        before = harness.clock.now
        again(harness, job_id)

    job = harness.job(job_id)
    assert before <= job.created_at + NOT_FOUND_TOLERANCE_SECONDS * 1000 < harness.clock.now
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert job.error.code is ErrorCode.NOT_FOUND


def test_not_found_is_not_final_at_the_edge_of_the_tolerance(behind_nat: Harness) -> None:
    job_id = running(behind_nat, UNKNOWN)
    behind_nat.clock.forward(NOT_FOUND_TOLERANCE_SECONDS)

    poll(behind_nat.runtime, job_id)

    assert behind_nat.job(job_id).status is Status.RUNNING


def test_not_found_is_never_final_while_a_callback_may_come(harness: Harness) -> None:
    job_id = running(harness, UNKNOWN)
    harness.clock.forward(10 * NOT_FOUND_TOLERANCE_SECONDS)

    poll(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.RUNNING


# The deadline --------------------------------------------------------------------------------


def test_no_wait_goes_beyond_the_deadline(harness: Harness) -> None:
    response = answer(429, {"message": "slow down"}, Retry_After="3000")

    assert harness.seconds_until_due(polled(harness, response, deadline_seconds=100)) == 100


@pytest.mark.parametrize(
    ("last", "news"),
    [(HANDLING, "handling"), (UNKNOWN, "not found"), (BROKEN, "provider_unavailable: broken")],
)
def test_at_the_deadline_a_job_fails_with_the_last_state(
    harness: Harness, last: Answer, news: str
) -> None:
    job_id = running(harness, last, deadline_seconds=100)
    harness.clock.forward(100)

    poll(harness.runtime, job_id)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert job.error is not None
    assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
    message = f"no outcome by the deadline; the last answer of its provider: {news}"
    assert job.error.message == message


def test_a_job_after_its_deadline_gets_one_last_poll(harness: Harness) -> None:
    job_id = running(harness, DONE, deadline_seconds=100)
    harness.clock.forward(5000)

    poll(harness.runtime, job_id)

    assert (harness.job(job_id).status, len(harness.provider.requests)) == (Status.SUCCEEDED, 1)


# Switched off --------------------------------------------------------------------------------


def test_a_running_job_of_a_disabled_provider_waits_until_its_deadline(harness: Harness) -> None:
    job_id = running(harness, DONE, deadline_seconds=90)
    off = harness.provider_off()

    poll(off.runtime, job_id)
    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (
        Status.RUNNING,
        SWITCHED_OFF_SECONDS,
    )
    again(off, job_id)
    assert harness.seconds_until_due(job_id) == 30
    again(off, job_id)

    job = harness.job(job_id)
    assert job.error is not None
    assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert "hiapi is switched off" in job.error.message
    assert harness.provider.requests == []


def test_a_process_without_the_api_key_pauses_no_other(harness: Harness) -> None:
    first, second = running(harness, DONE), harness.enqueue()
    harness.ledger.claim(second, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)
    harness.ledger.accepted(second, 1, "task-2", now=harness.clock(), due_at=harness.clock())

    poll(harness.provider_off().runtime, second)
    poll(harness.runtime, first)

    assert harness.job(first).status is Status.SUCCEEDED
