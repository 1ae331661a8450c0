"""The submit step when nobody knows whether the request arrived: nothing is paid twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import structlog

from orchestrator.backoff import LOST_LEASE_SECONDS
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import note_unreadable
from orchestrator.jobs.model import ErrorCode, SettledBy, Status, Step
from orchestrator.steps.submit import submit
from tests.steps.test_submit import ACCEPTED, ESTIMATED, GATEWAY, NO, SLOW_DOWN, again, submitted
from tests.support.fakes import Answer, Harness, answer
from tests.support.providers import POLLED_WITHOUT_KEYS

HOUR = 3600


def failed_unconfirmed(harness: Harness, job_id: str) -> bool:
    job = harness.job(job_id)
    return (
        job.status is Status.FAILED
        and job.settled_by is SettledBy.DEADLINE
        and job.error is not None
        and job.error.code is ErrorCode.SUBMISSION_UNCONFIRMED
        and harness.seconds_until_due(job_id) is None
    )


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
@pytest.mark.parametrize(
    "response",
    [None, GATEWAY, Answer(504), Answer(200, b"{}"), Answer(200, b"<html>")],
    ids=["connection dropped", "502", "504", "2xx without a task", "2xx without JSON"],
)
def test_without_a_readable_answer_the_attempt_is_unconfirmed(
    harness: Harness, provider: str, response: Answer | None
) -> None:
    job = harness.job(submitted(harness, provider, response))

    assert (job.status, job.attempt.number) == (Status.UNCONFIRMED, 1)


def test_an_incomplete_answer_leaves_the_attempt_unconfirmed(harness: Harness) -> None:
    headers = {"Content-Length": "999"}  # promised, and not sent

    job_id = submitted(harness, "hiapi", Answer(200, b'{"data":{"taskId":"task-1"}}', headers))

    assert harness.job(job_id).status is Status.UNCONFIRMED


# With an idempotency key ---------------------------------------------------------------------


def test_the_same_attempt_is_sent_again_with_the_same_key_and_body_until_it_is_answered(
    harness: Harness,
) -> None:
    job_id = submitted(harness, "hiapi", None, GATEWAY, None, ACCEPTED)
    for _ in range(3):
        assert harness.job(job_id).status is Status.UNCONFIRMED
        again(harness, job_id)

    job = harness.job(job_id)
    assert (job.status, job.attempt.number, job.attempt.task_id) == (Status.RUNNING, 1, "task-1")
    sent = {(a.headers["idempotency-key"], a.body, a.path) for a in harness.provider.requests}
    assert len(harness.provider.requests) == 4
    assert len(sent) == 1
    assert next(iter(sent))[0] == f"{job_id}.1"


@pytest.mark.parametrize("refusal", [NO, SLOW_DOWN, answer(400, {"error_code": "INVALID_REQUEST"})])
def test_a_refusal_of_a_repeated_send_proves_nothing_about_the_first(
    harness: Harness, refusal: Answer
) -> None:
    job_id = submitted(harness, "hiapi", None, refusal, ACCEPTED)

    again(harness, job_id)
    assert harness.job(job_id).status is Status.UNCONFIRMED
    again(harness, job_id)

    assert harness.job(job_id).status is Status.RUNNING
    assert harness.job(job_id).attempt.number == 1


def test_a_key_in_flight_waits_for_the_retry_after(harness: Harness) -> None:
    processing = answer(409, {"error_code": "IDEMPOTENCY_KEY_PROCESSING"}, Retry_After="4")
    job_id = submitted(harness, "hiapi", None, processing, ACCEPTED)

    again(harness, job_id)

    assert harness.job(job_id).status is Status.UNCONFIRMED
    assert harness.seconds_until_due(job_id) == 4


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 1.5)])
def test_the_wait_between_sends_doubles_with_jitter_up_to_a_minute(
    harness: Harness, chance: float, factor: float
) -> None:
    harness.chance.number = chance
    job_id = submitted(harness, "hiapi", None)
    waits = []
    for _ in range(8):
        waits.append(harness.seconds_until_due(job_id))
        again(harness, job_id)

    assert waits == [factor * min(2.0**n, 60) for n in range(8)]


def test_the_error_at_the_deadline_says_that_the_job_may_have_been_charged(
    harness: Harness,
) -> None:
    job_id = submitted(harness, "hiapi", None, deadline_seconds=10)
    while harness.job(job_id).status is Status.UNCONFIRMED:
        again(harness, job_id)

    assert failed_unconfirmed(harness, job_id)
    error = harness.job(job_id).error
    assert error is not None
    assert "may have been charged" in error.message


def test_nothing_is_sent_again_after_the_key_expired(behind_nat: Harness) -> None:
    harness = behind_nat
    job_id = submitted(harness, "hiapi", None, deadline_seconds=48 * HOUR)
    harness.clock.forward(24 * HOUR)

    submit(harness.runtime, job_id)

    assert failed_unconfirmed(harness, job_id)
    assert len(harness.provider.requests) == 1


def test_a_killed_workers_attempt_is_sent_again_with_its_own_key(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    job_id = harness.enqueue()
    harness.ledger.claim(job_id, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)

    again(harness, job_id)

    assert harness.job(job_id).status is Status.RUNNING
    [request] = harness.provider.requests
    assert request.headers["idempotency-key"] == f"{job_id}.1"


# Without a key -------------------------------------------------------------------------------


def test_without_keys_nothing_is_sent_again_and_the_job_waits_until_the_deadline(
    harness: Harness,
) -> None:
    job_id = submitted(harness, "evolink", None)
    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (
        Status.UNCONFIRMED,
        HOUR,
    )

    harness.clock.forward(HOUR - 1)
    submit(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.UNCONFIRMED
    harness.clock.forward(1)
    submit(harness.runtime, job_id)

    assert failed_unconfirmed(harness, job_id)
    assert len(harness.provider.requests) == 1


def test_a_killed_workers_attempt_is_waited_for_and_not_sent_again(harness: Harness) -> None:
    job_id = harness.enqueue("evolink")
    harness.ledger.claim(job_id, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)
    harness.clock.forward(60)

    submit(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.UNCONFIRMED
    assert harness.seconds_until_due(job_id) == HOUR - 60
    assert harness.provider.requests == []


def test_without_keys_and_callbacks_the_job_fails_at_once(behind_nat: Harness) -> None:
    harness = behind_nat
    job_id = submitted(harness, "evolink", None)
    assert harness.seconds_until_due(job_id) == 0

    again(harness, job_id)

    assert failed_unconfirmed(harness, job_id)
    assert len(harness.provider.requests) == 1


# Resubmission --------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "response"), [("hiapi", ACCEPTED), ("evolink", ESTIMATED)])
def test_resubmit_sends_a_second_attempt_half_way_to_the_deadline(
    harness: Harness, provider: str, response: Answer
) -> None:
    fields: dict[str, Any] = {"on_unconfirmed": "resubmit", "deadline_seconds": 200}
    job_id = submitted(harness, provider, None, **fields)
    with structlog.testing.capture_logs() as logs:
        while harness.job(job_id).status is Status.UNCONFIRMED:
            again(harness, job_id)
    assert harness.clock.now == harness.job(job_id).created_at + 100_000
    assert given_up(logs) == [True]

    harness.provider.answers(response)
    harness.provider.requests.clear()
    harness.ledger.admission.resume(provider, now=harness.clock.now)  # the provider answers again
    submit(harness.runtime, job_id)

    job = harness.job(job_id)
    assert (job.status, job.attempt.number) == (Status.RUNNING, 2)
    [request] = harness.provider.requests
    assert f"{job_id}.2/" in request.body.decode()
    assert request.headers.get("idempotency-key", f"{job_id}.2") == f"{job_id}.2"


def test_resubmit_does_not_go_beyond_the_deadline(harness: Harness) -> None:
    job_id = submitted(harness, "evolink", None, on_unconfirmed="resubmit", deadline_seconds=100)
    with structlog.testing.capture_logs() as logs:
        while not harness.job(job_id).status.terminal:
            again(harness, job_id)

    assert failed_unconfirmed(harness, job_id)
    assert harness.clock.now == harness.job(job_id).created_at + 100_000
    assert given_up(logs) == [True, False]


def given_up(logs: Iterable[Mapping[str, Any]]) -> list[bool]:
    """Return whether each attempt that was given up is submitted again, as the log says."""
    return [each["resubmit"] for each in logs if each["event"] == "attempt_given_up"]


# Switched off --------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
def test_an_unconfirmed_attempt_of_a_provider_that_is_off_waits_and_fails_at_the_deadline(
    harness: Harness, provider: str
) -> None:
    job_id = submitted(harness, provider, None, deadline_seconds=100)
    off = harness.provider_off()
    sent = len(harness.provider.requests)

    for _ in range(4):
        if not harness.job(job_id).status.terminal:
            again(off, job_id)

    assert failed_unconfirmed(harness, job_id)
    assert harness.clock.now == harness.job(job_id).created_at + 100_000
    assert len(harness.provider.requests) == sent


def test_a_key_is_not_sent_after_its_lifetime(harness: Harness) -> None:
    job_id = submitted(harness, "hiapi", None, ACCEPTED, deadline_seconds=3 * 86_400)
    harness.clock.forward(30 * 3600)

    submit(harness.runtime, job_id)

    assert len(harness.provider.requests) == 1
    assert harness.job(job_id).status is Status.UNCONFIRMED
    assert harness.seconds_until_due(job_id) == (3 * 86_400) - 30 * 3600


def test_a_lost_lease_leaves_time_for_its_workers_record(harness: Harness) -> None:
    job_id = harness.enqueue(POLLED_WITHOUT_KEYS)
    now = harness.clock()
    assert harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=1000)
    harness.clock.forward(2)

    submit(harness.runtime, job_id)
    assert harness.job(job_id).status is Status.UNCONFIRMED
    wait = harness.seconds_until_due(job_id)
    assert wait is not None
    assert wait >= LOST_LEASE_SECONDS
    harness.ledger.accepted(job_id, 1, "task-1", now=harness.clock(), due_at=harness.clock())

    assert harness.job(job_id).status is Status.RUNNING


def test_a_callback_that_named_no_task_is_in_the_error(harness: Harness) -> None:
    job_id = submitted(harness, "evolink", None, deadline_seconds=60)
    address = CallbackAddress("evolink", job_id, 1)
    note_unreadable(harness.runtime, address, harness.clock())

    again(harness, job_id)

    error = harness.job(job_id).error
    assert error is not None
    assert "a callback came, but it named no task" in error.message
