"""What a provider answered is recorded, also when Redis is away at that moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Spool, SpoolError
from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import Image, Outcome, Status
from orchestrator.jobs.uploads import ImageFile
from orchestrator.ledger import Ledger, LedgerUnavailable, Result, keys
from orchestrator.ledger.admission import CircuitState
from orchestrator.net.http_types import Reply
from orchestrator.providers.responses import Accepted
from orchestrator.step_loop import StepLoop, current_loop
from orchestrator.steps.acceptance import record, record_spooled
from orchestrator.steps.submit import submit
from tests.jobs.test_uploads import PNG
from tests.steps.test_submit import ACCEPTED, SLOW_DOWN, again, submitted
from tests.support import job_states
from tests.support.fakes import Harness, answer
from tests.support.providers import ACCEPTING_FILES, EXAMPLE_REQUESTS
from tests.support.steps import begin

WAIT_SECONDS = 60.0


def raise_away(*_: object, **__: object) -> Result:
    raise LedgerUnavailable("away")


@pytest.fixture
def outage(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """A function that makes a method of the ledger fail for a number of calls."""

    def begin(method: str, times: int) -> None:
        left, original = [times], getattr(Ledger, method)

        def call(self: Ledger, *args: object, **options: object) -> object:
            if left[0]:
                left[0] -= 1
                raise LedgerUnavailable("away")
            return original(self, *args, **options)

        monkeypatch.setattr(Ledger, method, call)

    return begin


def test_an_acceptance_is_recorded_when_redis_is_back(
    harness: Harness, outage: Callable[[str, int], None]
) -> None:
    outage("accepted", 3)

    job_id = submitted(harness, "hiapi", ACCEPTED)

    assert harness.runtime.retry_queue.drain(WAIT_SECONDS) == []
    job = harness.job(job_id)
    assert (job.status, job.attempt.task_id) == (Status.RUNNING, "task-1")
    assert len(harness.provider.requests) == 1


def test_a_refusal_is_recorded_when_redis_is_back(
    harness: Harness, outage: Callable[[str, int], None]
) -> None:
    outage("requeue", 2)

    job_id = submitted(harness, "hiapi", SLOW_DOWN)

    assert harness.runtime.retry_queue.drain(WAIT_SECONDS) == []
    assert harness.job(job_id).status is Status.QUEUED


def test_with_a_spool_an_acceptance_outlives_the_process(
    start: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start(ORCHESTRATOR_SPOOL_DIR=str(tmp_path / "spool"))
    away = True

    def accepted(self: Ledger, *args: object, **options: object) -> Result:
        if away:
            raise LedgerUnavailable("away")
        return original(self, *args, **options)  # type: ignore[arg-type]

    original = Ledger.accepted
    monkeypatch.setattr(Ledger, "accepted", accepted)
    # The process ends before Redis is back.
    monkeypatch.setattr(harness.runtime.retry_queue, "add", lambda *_, **__: None)
    job_id = submitted(harness, "hiapi", ACCEPTED)
    spool = Spool(tmp_path / "spool")
    assert harness.job(job_id).attempt.task_id is None
    assert len(spool.waiting()) == 1
    half_written = spool.folder / "by a process that died.half"
    half_written.touch()
    os.utime(half_written, (0, 0))
    away = False

    assert SpoolDrainer(harness.runtime, spool, record_spooled).drain() is False

    assert harness.job(job_id).attempt.task_id == "task-1"
    assert spool.waiting() == []
    assert not half_written.exists()


def test_an_acceptance_of_a_job_that_cannot_be_read_delays_no_other(
    start: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start(ORCHESTRATOR_SPOOL_DIR=str(tmp_path / "spool"))
    monkeypatch.setattr(harness.runtime.retry_queue, "add", lambda *_, **__: None)
    with monkeypatch.context() as away:
        away.setattr(Ledger, "accepted", raise_away)
        spoiled, good = (submitted(harness, "hiapi", ACCEPTED) for _ in range(2))
    harness.redis.hset(keys.job(spoiled), "request", "{")
    spool = Spool(tmp_path / "spool")

    assert SpoolDrainer(harness.runtime, spool, record_spooled).drain() is True

    assert harness.job(good).attempt.task_id == "task-1"
    assert [spool.load(name).job_id for name in spool.waiting()] == [spoiled]


def test_a_step_loop_does_not_wait_for_the_disk_of_the_spool(
    start: Callable[..., Harness],
    steps: StepLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loops: list[object] = []

    def keep(*_: object) -> str:
        loops.append(current_loop())
        raise SpoolError("full")

    harness = start(ORCHESTRATOR_SPOOL_DIR=str(tmp_path / "spool"))
    harness.provider.answers(ACCEPTED)
    job_id = harness.enqueue("hiapi")
    monkeypatch.setattr(harness.runtime.retry_queue, "add", lambda *_, **__: None)
    monkeypatch.setattr(Ledger, "accepted", raise_away)
    monkeypatch.setattr(Spool, "keep", keep)

    begin(steps, submit, harness.runtime, job_id).result(WAIT_SECONDS)

    assert loops == [None]


def test_a_recorded_acceptance_leaves_the_spool(
    start: Callable[..., Harness], tmp_path: Path, outage: Callable[[str, int], None]
) -> None:
    harness = start(ORCHESTRATOR_SPOOL_DIR=str(tmp_path / "spool"))
    outage("accepted", 1)

    submitted(harness, "hiapi", ACCEPTED)

    assert harness.runtime.retry_queue.drain(WAIT_SECONDS) == []
    assert Spool(tmp_path / "spool").waiting() == []


def test_images_inside_an_answer_that_our_storage_does_not_take_are_polled_for(
    harness: Harness,
) -> None:
    away = harness.storage_away().runtime
    job = job_states.submitting(harness).job
    outcome = Outcome.succeeded((Image("", content=PNG),))

    record(away, job, 1, Reply(200, {}, b"{}"), Accepted("task-1", outcome=outcome))

    running = harness.job(job.id)
    assert (running.status, running.attempt.task_id) == (Status.RUNNING, "task-1")


@pytest.mark.parametrize("error", [SpoolError("full"), RuntimeError("can't start new thread")])
def test_an_acceptance_is_recorded_although_the_spool_cannot_take_it(
    start: Callable[..., Harness],
    tmp_path: Path,
    outage: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def full(*_: object) -> str:
        raise error

    harness = start(ORCHESTRATOR_SPOOL_DIR=str(tmp_path / "spool"))
    monkeypatch.setattr(Spool, "keep", full)
    outage("accepted", 1)

    with structlog.testing.capture_logs() as logs:
        job_id = submitted(harness, "hiapi", ACCEPTED)
        assert harness.runtime.retry_queue.drain(WAIT_SECONDS) == []

    assert harness.job(job_id).attempt.task_id == "task-1"
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "acceptance_unspooled"
    ]


def test_a_late_acceptance_of_an_older_attempt_keeps_the_file_of_the_newer_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = ACCEPTING_FILES[0]
    monkeypatch.setattr(Ledger, "accepted", lambda *_, **__: Result.SUPERSEDED)
    harness.provider.answers(answer(200, {"code": 200, "data": {"taskId": "task-1"}}))
    file = ImageFile("teal.png", PNG)
    request = EXAMPLE_REQUESTS[provider]
    job_id = create_job(harness.runtime, request, scope="tests", file=file).job.id

    submit(harness.runtime, job_id)

    assert harness.ledger.uploads.get(job_id) == PNG


# Account errors and waits of the whole provider -------------------------------------------------


@pytest.mark.parametrize("status", [401, 402, 403])
def test_an_account_error_pauses_the_provider_and_burns_no_queue(
    harness: Harness, status: int
) -> None:
    first = submitted(harness, "hiapi", answer(status, {"message": "see your account"}), ACCEPTED)
    second, other = harness.enqueue(), harness.enqueue("evolink")

    submit(harness.runtime, second)
    submit(harness.runtime, other)

    sent = [request.path for request in harness.provider.requests]
    assert len(sent) == 2, "the second job of the provider is not sent"
    assert [harness.job(job_id).status for job_id in (first, second)] == [Status.QUEUED] * 2
    state = harness.ledger.admission.states(["hiapi"], now=harness.clock())["hiapi"]
    assert state.reason
    assert state.reason.message == "see your account"
    assert state.until
    harness.clock.now = state.until
    submit(harness.runtime, second)
    assert harness.job(second).status is Status.RUNNING


def test_at_the_deadline_the_job_says_what_it_waited_for(harness: Harness) -> None:
    job_id = submitted(
        harness, "hiapi", answer(401, {"message": "see your account"}), deadline_seconds=100
    )
    while not harness.job(job_id).status.terminal:
        again(harness, job_id)

    error = harness.job(job_id).error
    assert error is not None
    assert "authentication: see your account" in error.message


@pytest.mark.parametrize("header", ["0", "-1", "0.05", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_small_retry_after_never_undercuts_our_own_waits(harness: Harness, header: str) -> None:
    response = answer(429, {"message": "slow down"}, Retry_After=header)
    job_id = submitted(harness, "hiapi", response)
    waits = []
    for _ in range(5):
        waits.append(harness.seconds_until_due(job_id))
        again(harness, job_id)

    assert waits == [1, 2, 4, 8, 16]


def test_a_retry_after_holds_for_all_jobs_of_the_provider_and_then_one_asks(
    harness: Harness,
) -> None:
    refused = answer(429, {"message": "slow down"}, Retry_After="60")
    submitted(harness, "hiapi", refused, ACCEPTED)
    others = [harness.enqueue() for _ in range(2)]

    for seconds, sent in ((0, 1), (59, 1), (2, 2)):
        harness.clock.forward(seconds)
        for job_id in others:
            submit(harness.runtime, job_id)
        assert len(harness.provider.requests) >= sent
    state = harness.ledger.admission.states(["hiapi"], now=harness.clock())["hiapi"]
    assert state.circuit is CircuitState.CLOSED
