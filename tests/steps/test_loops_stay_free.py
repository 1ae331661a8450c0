"""No step waits for Redis in its event loop: every other step of the process would wait, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.connection import AbstractConnection

from orchestrator.enqueuing import create_job
from orchestrator.jobs.uploads import ImageFile
from orchestrator.ledger import Ledger
from orchestrator.step_loop import StepLoop, current_loop
from orchestrator.steps.batch import batch
from orchestrator.steps.notify import notify
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.api.conftest import KEY
from tests.support import job_states
from tests.support.fakes import Answer, Harness, answer
from tests.support.providers import ACCEPTING_FILES, EXAMPLE_REQUESTS
from tests.support.steps import begin
from tests.support.web import WebApp
from tests.webhooks.kit import SUCCESS, Receiver
from webhooks.app import create_app

LIMIT = 60
JOB = {**EXAMPLE_REQUESTS["hiapi"], "notify_stream": "orders"}
Run = Callable[..., Any]


@pytest.fixture
def own(harness: Harness, real_redis: Redis, redis_url: str) -> Harness:
    """A harness on a server, with connections of its own."""
    return harness.on(Ledger.from_url(redis_url))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return a function that does an action as a step. No answer of Redis is read in its loop."""
    loop, read = StepLoop(), AbstractConnection.read_response

    def read_elsewhere(*args: Any, **options: Any) -> Any:
        assert current_loop() is None, "Redis is asked in the thread of an event loop"
        return read(*args, **options)

    monkeypatch.setattr(AbstractConnection, "read_response", read_elsewhere)
    yield lambda action, *args: begin(loop, action, *args).result(LIMIT)
    loop.stop()


def test_an_enqueue_and_its_repetitions(own: Harness, run: Run) -> None:
    client = create_app(own.runtime).test_client()

    def enqueue(**changes: str) -> int:
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "once"}
        return client.post("/v1/jobs", json={**JOB, **changes}, headers=headers).status_code

    assert run(enqueue) == 202
    assert run(enqueue) == 200
    assert run(lambda: enqueue(prompt="Another cube")) == 422
    assert run(lambda: enqueue(provider="nobody")) == 422


def test_a_callback_and_one_that_cannot_be_read(own: Harness, run: Run) -> None:
    receiver = Receiver.on(own)
    job_id = receiver.running()

    assert run(receiver.deliver, job_id, b"no task").status_code == 400
    assert run(receiver.deliver, job_id, SUCCESS["hiapi"]).status_code == 200
    assert run(receiver.deliver, job_id, SUCCESS["hiapi"]).status_code == 200


def test_the_steps_of_a_job(own: Harness, run: Run) -> None:
    job_id = own.enqueue(notify_stream="orders")
    own.provider.handler = lambda _: answer(200, {"data": {"taskId": "task-1"}})
    run(submit, own.runtime, job_id)
    own.clock.forward(600)
    failed = {"taskId": "task-1", "status": "failed", "error": {"message": "no"}}
    own.provider.handler = lambda _: answer(200, {"data": failed})
    run(poll, own.runtime, job_id)
    run(notify, own.runtime, job_id)

    assert own.job(job_id).status == "failed"
    assert own.events(job_id)[-1] == "notify_done"


def test_a_job_with_a_file_that_is_refused(own: Harness, run: Run) -> None:
    file = ImageFile("cat.png", b"\x89PNG\r\n\x1a\n" + bytes(100))
    request = EXAMPLE_REQUESTS[ACCEPTING_FILES[0]]
    job_id = create_job(own.runtime, request, scope="tests", file=file).job.id
    own.provider.handler = lambda _: answer(402, {"message": "no credits left"})
    run(submit, own.runtime, job_id)
    assert own.job(job_id).status == "queued"

    own.clock.forward(900)
    own.provider.handler = lambda _: answer(400, {"message": "no such model"})
    run(submit, own.runtime, job_id)

    assert own.job(job_id).status == "failed"
    assert own.ledger.uploads.get(job_id) is None


def test_an_attempt_that_is_given_up(own: Harness, run: Run) -> None:
    job_id = job_states.unconfirmed(own)
    own.provider.handler = lambda _: Answer(500)
    own.clock.forward(2 * 86_400)

    run(submit, own.runtime, job_id)

    assert own.job(job_id).status == "failed"


def test_the_notification_of_a_batch(own: Harness, run: Run) -> None:
    client = WebApp(own.runtime).test_client()
    made = client.post(
        "/v1/jobs/batch",
        json={"jobs": [JOB], "notify_stream": "batches"},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    assert made.json is not None
    own.ledger.cancel(made.json["results"][0]["job"]["id"], now=own.clock())

    run(batch, own.runtime, made.json["batch"])

    done = own.ledger.batches.get(made.json["batch"])
    assert done is not None
    assert done.notification is not None
    assert done.notification.status == "done"
