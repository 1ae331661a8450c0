"""Callbacks with images inside are too large to be kept. Their jobs are polled at once."""

from __future__ import annotations

import base64
import gzip
import io
from typing import Any

import pytest

from orchestrator.jobs.model import Status, Step
from orchestrator.jsonio import dump
from tests.webhooks.conftest import Open
from tests.webhooks.kit import SECRET, SUCCESS, TASK, Receiver, signed
from webhooks import receiver as receiver_module
from webhooks.receiver import MAX_BODY_BYTES

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(MAX_BODY_BYTES)).decode()
#: A success with its image inside.
INLINE = {**SUCCESS["hiapi"], "output": [{"url": f"data:image/png;base64,{PNG}", "type": "image"}]}
FAILED = {"taskId": TASK, "status": "fail", "error": {"code": "x", "message": "no"}, "echo": PNG}


def due_now(receiver: Receiver, job_id: str) -> bool:
    """Whether the job is to be polled now."""
    [nudge] = receiver.harness.nudges.sent[-1:]
    due = dict(receiver.harness.ledger.agenda.due(0, now=receiver.harness.clock(), limit=10))
    return nudge == (Step.POLL, job_id) and due.get(job_id) is Step.POLL


@pytest.mark.parametrize("body", [INLINE, FAILED], ids=["a success", "a failure"])
def test_a_long_callback_makes_a_poll_due_and_is_not_repeated(
    receiver: Receiver, body: dict[str, Any]
) -> None:
    job_id = receiver.running()

    answer = receiver.deliver(job_id, body)

    assert (answer.status_code, answer.json) == (200, {"result": "running"})
    assert receiver.job(job_id).status is Status.RUNNING
    assert due_now(receiver, job_id)


def test_a_long_callback_tells_the_task_of_an_unanswered_submission(receiver: Receiver) -> None:
    job_id = receiver.submitted()

    answer = receiver.send(receiver.path(job_id), INLINE)

    assert answer.json == {"result": "running"}
    assert receiver.job(job_id).attempt.task_id == TASK
    assert due_now(receiver, job_id)


def test_a_long_callback_of_another_task_is_refused(receiver: Receiver) -> None:
    job_id = receiver.running(task_id="task-other")

    assert receiver.send(receiver.path(job_id), INLINE).status_code == 409


@pytest.mark.parametrize(
    "body", [b" " * (MAX_BODY_BYTES + 1), gzip.compress(dump(INLINE)).ljust(2 * MAX_BODY_BYTES)]
)
def test_a_long_callback_that_cannot_be_read_makes_a_poll_due(
    receiver: Receiver, body: bytes
) -> None:
    job_id = receiver.running()

    answer = receiver.deliver(job_id, body)

    assert (answer.status_code, answer.json) == (200, {"result": "running"})
    assert due_now(receiver, job_id)


def test_a_long_callback_to_a_submission_without_a_task_is_not_repeated(receiver: Receiver) -> None:
    job_id = receiver.submitted()

    answer = receiver.send(receiver.path(job_id), b" " * (MAX_BODY_BYTES + 1))

    assert (answer.status_code, answer.json) == (200, {"result": "recorded"})


def test_a_long_callback_cannot_be_verified_and_only_makes_a_poll_due(open_receiver: Open) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id, waiting = receiver.running(), receiver.submitted()
    body, now = dump(INLINE), receiver.harness.clock() // 1000

    answers = [
        receiver.send(receiver.path(id_), body, headers=signed(body, now))
        for id_ in (waiting, job_id)
    ]

    assert [answer.json for answer in answers] == [{"result": "recorded"}, {"result": "running"}]
    assert receiver.job(waiting).attempt.task_id is None
    assert due_now(receiver, job_id)


@pytest.mark.parametrize("length", [10**10, None])
def test_a_body_over_the_limit_is_not_read_to_its_end_and_makes_a_poll_due(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    monkeypatch.setattr(receiver_module, "MAX_LONG_BYTES", 2 * MAX_BODY_BYTES)
    job_id, body = receiver.running(), Endless()
    headers = {"Content-Length": str(length)} if length else {"Transfer-Encoding": "chunked"}

    answer = receiver.client.post(
        receiver.path(job_id),
        headers=headers,
        environ_overrides={"wsgi.input": body, "wsgi.input_terminated": length is None},
    )

    assert answer.status_code == 413
    assert body.given <= 3 * MAX_BODY_BYTES
    assert due_now(receiver, job_id)


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 413)])
def test_a_body_of_exactly_the_limit_is_read(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, over: int, status: int
) -> None:
    body = dump(SUCCESS["hiapi"])
    monkeypatch.setattr(receiver_module, "MAX_LONG_BYTES", len(body) - over)

    assert receiver.send(receiver.path(receiver.running()), body).status_code == status


def test_a_body_that_is_cut_off_makes_a_poll_due(receiver: Receiver) -> None:
    job_id = receiver.running()

    answer = receiver.client.post(
        receiver.path(job_id), data=b'{"taskId":', headers={"Content-Length": "400000"}
    )

    assert answer.status_code == 400
    assert due_now(receiver, job_id)


class Endless(io.RawIOBase):
    """A body without an end. It counts the bytes that were read."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.given += len(buffer)
        return len(buffer)
