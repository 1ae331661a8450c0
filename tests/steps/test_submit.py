"""The submit step: one attempt reaches its provider, and no attempt is paid twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome, SettledBy, Status, Step
from orchestrator.providers.client import NotSent, ProviderClient
from orchestrator.steps.submit import LEASE_MARGIN_MS, lease_ms, submit
from tests.ledger.kit import SUCCESS
from tests.support.fakes import API_KEY, Answer, Harness, ReceivedRequest, answer
from tests.support.providers import POLLED_WITHOUT_KEYS

ACCEPTED = answer(200, {"data": {"taskId": "task-1"}})
ESTIMATED = answer(
    200,
    {
        "id": "task-1",
        "status": "pending",
        "task_info": {"estimated_time": 45},
        "usage": {"credits_reserved": 1.6},
    },
)
SLOW_DOWN = answer(429, {"message": "slow down"})
NO = answer(422, {"message": "bad prompt", "error": {"message": "bad prompt"}})
WHO = answer(401, {"message": "who are you", "error": {"message": "who are you"}})
GATEWAY = Answer(502, b"<html>Bad Gateway</html>")


def submitted(harness: Harness, provider: str, *answers: Answer | None, **fields: Any) -> str:
    """A job that was enqueued and submitted once."""
    harness.provider.answers(*answers)
    job_id = harness.enqueue(provider, **fields)
    submit(harness.runtime, job_id)
    return job_id


def again(harness: Harness, job_id: str) -> None:
    """Submit once more, at the moment the agenda says."""
    wait = harness.seconds_until_due(job_id)
    assert wait is not None
    harness.clock.forward(max(wait, 0))
    submit(harness.runtime, job_id)


# Accepted ------------------------------------------------------------------------------------


def test_an_accepted_attempt_runs_under_the_providers_task_id(harness: Harness) -> None:
    job = harness.job(submitted(harness, "hiapi", ACCEPTED))

    assert job.status is Status.RUNNING
    assert [(a.number, a.task_id) for a in job.attempts] == [(1, "task-1")]
    assert job.attempt.submitted_at == harness.clock.now


def test_the_request_has_the_key_the_body_and_our_callback_url(harness: Harness) -> None:
    job_id = submitted(harness, "hiapi", ACCEPTED)

    [request] = harness.provider.requests
    address = CallbackAddress("hiapi", job_id, 1).url(harness.runtime.settings)
    assert (request.method, request.path) == ("POST", "/v1/tasks")
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == f"{job_id}.1"
    assert request.json == {
        "model": "Nano-Banana-2",
        "input": {"prompt": "A red cube"},
        "callback": {"url": address, "when": "final"},
    }


def test_without_a_public_url_no_callback_is_requested(behind_nat: Harness) -> None:
    submitted(behind_nat, "evolink", ESTIMATED)

    assert behind_nat.provider.requests[0].json == {
        "model": "nano-banana-2-lite",
        "prompt": "A red cube",
    }


@pytest.mark.parametrize(
    ("provider", "response", "calls_back", "first_poll_delay"),
    [
        ("hiapi", ACCEPTED, True, 30),  # the grace for the callback
        ("hiapi", ACCEPTED, False, 3),  # the poll interval
        ("evolink", ESTIMATED, True, 75),  # the provider's own estimate, and the grace
        ("evolink", ESTIMATED, False, 45),
    ],
)
def test_the_first_poll_follows_the_estimate_and_the_callback_grace(
    start: Callable[..., Harness],
    provider: str,
    response: Answer,
    calls_back: bool,
    first_poll_delay: float,
) -> None:
    harness = start() if calls_back else start(ORCHESTRATOR_PUBLIC_URL=None)

    assert harness.seconds_until_due(submitted(harness, provider, response)) == first_poll_delay


@pytest.mark.parametrize(
    ("calls_back", "took", "first_poll_delay"),
    [(False, 20, 20), (False, 1, 3), (True, 20, 30), (True, 50, 50)],
)
def test_the_first_poll_follows_what_the_model_took_lately(
    start: Callable[..., Harness], calls_back: bool, took: int, first_poll_delay: float
) -> None:
    harness = start() if calls_back else start(ORCHESTRATOR_PUBLIC_URL=None)
    for number in range(5):
        job_id, now = harness.enqueue(), harness.clock()
        harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
        harness.clock.forward(took)
        harness.ledger.settle_attempt(job_id, 1, f"before-{number}", SUCCESS, now=harness.clock())

    assert harness.seconds_until_due(submitted(harness, "hiapi", ACCEPTED)) == first_poll_delay


def test_the_first_poll_is_never_after_the_deadline(harness: Harness) -> None:
    assert (
        harness.seconds_until_due(submitted(harness, "evolink", ESTIMATED, deadline_seconds=20))
        == 20
    )


def test_the_reported_cost_is_recorded(harness: Harness) -> None:
    assert harness.job(submitted(harness, "evolink", ESTIMATED)).cost == Cost(1.6, "credits")


@pytest.mark.parametrize(
    ("state", "more", "status"),
    [
        ("succeeded", {"result_url": "https://e.example/a.png"}, Status.SUCCEEDED),
        ("failed", {"error": {"code": "blocked", "message": "no"}}, Status.FAILED),
    ],
)
def test_an_answer_with_the_outcome_settles_the_job(
    harness: Harness, state: str, more: dict[str, Any], status: Status
) -> None:
    task = {"task_id": "task-1", "status": state, "progress": "100%", **more}

    job_id = submitted(harness, POLLED_WITHOUT_KEYS, answer(200, task))

    job = harness.job(job_id)
    assert (job.status, job.settled_by, job.attempt.task_id) == (
        status,
        SettledBy.SUBMIT,
        "task-1",
    )
    assert harness.seconds_until_due(job_id) is None
    assert harness.events(job_id) == ["created", "submitting", "settled"]


def test_a_job_that_is_not_due_or_is_leased_is_not_sent(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    taken, done = harness.enqueue(), submitted(harness, "hiapi", ACCEPTED)
    harness.ledger.claim(taken, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)
    harness.provider.requests.clear()

    for job_id in (taken, done, "job_" + "0" * 28):
        submit(harness.runtime, job_id)

    assert harness.provider.requests == []


def test_a_callback_before_the_answer_wins(harness: Harness) -> None:
    outcome = Outcome.succeeded((Image("https://e.example/a.png"),))

    def overtaken(request: ReceivedRequest) -> Answer:
        job_id = request.headers["idempotency-key"].partition(".")[0]
        harness.ledger.settle_attempt(job_id, 1, "task-1", outcome, now=harness.clock())
        return ACCEPTED

    job_id = harness.enqueue()
    harness.provider.handler = overtaken
    submit(harness.runtime, job_id)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.CALLBACK)
    assert harness.seconds_until_due(job_id) is None


# Rejected -------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
def test_a_permanent_refusal_fails_the_job_with_the_providers_message(
    harness: Harness, provider: str
) -> None:
    job = harness.job(submitted(harness, provider, NO))

    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.SUBMIT)
    assert job.error is not None
    assert (job.error.code, job.error.message) == (ErrorCode.INVALID_REQUEST, "bad prompt")


def test_a_temporary_refusal_is_followed_by_a_new_attempt(harness: Harness) -> None:
    job_id = submitted(harness, "hiapi", SLOW_DOWN, ACCEPTED)
    assert harness.job(job_id).status is Status.QUEUED

    again(harness, job_id)

    assert harness.job(job_id).status is Status.RUNNING
    keys = [request.headers["idempotency-key"] for request in harness.provider.requests]
    assert keys == [f"{job_id}.1", f"{job_id}.2"]


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (0.5, 1.25), (1.0, 1.5)])
def test_the_wait_doubles_with_jitter_up_to_a_minute(
    harness: Harness, chance: float, factor: float
) -> None:
    harness.chance.number = chance
    job_id = submitted(harness, "hiapi", SLOW_DOWN)
    waits = []
    for _ in range(8):
        waits.append(harness.seconds_until_due(job_id))
        again(harness, job_id)

    assert waits == [factor * min(2.0**n, 60) for n in range(8)]


def test_retry_after_is_followed(harness: Harness) -> None:
    response = answer(429, {"message": "slow down"}, Retry_After="17")

    assert harness.seconds_until_due(submitted(harness, "hiapi", response)) == 17


def test_a_wait_in_the_text_of_a_refusal_is_followed(harness: Harness) -> None:
    error = {"type": "rate_limit_error", "fallback_suggestion": "retry after 60 seconds"}

    assert (
        harness.seconds_until_due(submitted(harness, "evolink", answer(429, {"error": error})))
        == 60
    )


def test_no_wait_goes_beyond_the_deadline_and_the_job_fails_then(harness: Harness) -> None:
    response = answer(429, {"message": "slow down"}, Retry_After="3000")
    job_id = submitted(harness, "hiapi", response, deadline_seconds=100)
    assert harness.seconds_until_due(job_id) == 100

    again(harness, job_id)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert job.error is not None
    assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert len(harness.provider.requests) == 1


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
def test_a_provider_that_cannot_be_reached_defers_the_job(
    start: Callable[..., Harness], provider: str
) -> None:
    harness = start(**{f"{provider.upper()}_BASE_URL": "http://127.0.0.1:1"})

    job_id = submitted(harness, provider, ACCEPTED)

    assert harness.job(job_id).status is Status.QUEUED
    assert harness.seconds_until_due(job_id) == 1
    assert harness.events(job_id) == ["created", "submitting", "deferred"]


# Before sending ------------------------------------------------------------------------------


def test_a_deadline_in_the_queue_fails_the_job_without_a_request(harness: Harness) -> None:
    job_id = harness.enqueue(deadline_seconds=10)
    harness.clock.forward(10)

    submit(harness.runtime, job_id)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert job.attempts == ()
    assert harness.provider.requests == []


def test_a_worker_that_was_delayed_after_its_claim_does_not_send(harness: Harness) -> None:
    job_id, clock = harness.enqueue(), harness.clock
    times = iter([clock.now, clock.now + LEASE_MARGIN_MS + 1])
    stalling = replace(harness.runtime, clock=lambda: next(times, clock.now + LEASE_MARGIN_MS + 1))

    submit(stalling, job_id)

    assert harness.provider.requests == []
    assert harness.job(job_id).status is Status.SUBMITTING
    assert harness.seconds_until_due(job_id) == lease_ms(harness.runtime) / 1000


def test_a_lease_outlasts_the_longest_call(harness: Harness) -> None:
    assert lease_ms(harness.runtime) == (2 + 2) * 1000 + LEASE_MARGIN_MS


def test_a_job_of_a_disabled_provider_waits_until_its_deadline(harness: Harness) -> None:
    job_id = harness.enqueue(deadline_seconds=90)
    off = harness.provider_off()

    submit(off.runtime, job_id)
    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (Status.QUEUED, 60)
    again(off, job_id)
    assert (harness.job(job_id).status, harness.seconds_until_due(job_id)) == (Status.QUEUED, 30)
    again(off, job_id)

    job = harness.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert harness.provider.requests == []


def test_a_job_is_sent_after_its_provider_is_enabled_again(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    job_id = harness.enqueue()
    submit(harness.provider_off().runtime, job_id)

    again(harness, job_id)

    assert harness.job(job_id).status is Status.RUNNING


@pytest.mark.parametrize(("provider", "fresh"), [(POLLED_WITHOUT_KEYS, True), ("hiapi", False)])
def test_an_attempt_without_a_key_uses_a_new_connection(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, provider: str, fresh: bool
) -> None:
    options: list[object] = []

    def call(*_: object, **named: object) -> NotSent:
        options.append(named["fresh_connection"])
        return NotSent("not tried")

    monkeypatch.setattr(ProviderClient, "call", call)
    submitted(harness, provider, ACCEPTED)

    assert options == [fresh]


@pytest.mark.parametrize("broken", ["submit_call", "read_submit"])
def test_an_adapter_that_raises_ends_or_doubts_the_attempt(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a prompt")

    monkeypatch.setattr(type(harness.runtime.providers["hiapi"]), broken, fail)
    job = harness.job(submitted(harness, "hiapi", ACCEPTED))

    if broken == "submit_call":  # nothing was sent
        assert job.error is not None
        assert (job.status, job.error.code) == (Status.FAILED, ErrorCode.UNKNOWN)
        assert "RuntimeError" in job.error.message
        assert "a prompt" not in job.error.message
    else:
        assert job.status is Status.UNCONFIRMED
