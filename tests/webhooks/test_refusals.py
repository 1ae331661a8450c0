"""What the receiver turns away: in which order, at what cost, and without a word too much."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import structlog
from redis import Redis

from orchestrator.ledger import Ledger
from tests.support.fakes import Harness
from tests.support.log_text import log_text
from tests.webhooks.conftest import Open
from tests.webhooks.kit import SECRET, SUCCESS, TASK, Receiver, another_job_id, signed
from webhooks.receiver import MAX_BODY_BYTES

HUGE = b" " * (MAX_BODY_BYTES + 1)
BAD_TOKEN = "A" * 43


@pytest.fixture
def guarded(start: Callable[..., Harness]) -> Receiver:
    """A receiver with a provider that signs, and a ledger that nobody may touch."""

    def touched() -> Redis:
        raise AssertionError("Redis was touched")

    harness = start(HIAPI_WEBHOOK_SECRET=SECRET)
    return Receiver.on(harness.on(Ledger(touched)))


# In this order, and without Redis ------------------------------------------------------------


def test_a_wrong_token_is_404_before_the_body_is_read(guarded: Receiver) -> None:
    answer = guarded.send(f"/callbacks/hiapi/nonsense/{BAD_TOKEN}", HUGE)

    assert answer.status_code == 404


def test_a_wrong_token_is_404_before_a_wrong_signature(guarded: Receiver) -> None:
    answer = guarded.send(f"/callbacks/hiapi/{another_job_id()}.1/{BAD_TOKEN}", b"no JSON")

    assert answer.status_code == 404


def test_a_wrong_signature_is_401_before_a_wrong_body(guarded: Receiver) -> None:
    answer = guarded.send(guarded.path(another_job_id()), b"no JSON")

    assert answer.status_code == 401


def test_the_largest_body_is_read(open_receiver: Open) -> None:
    receiver = open_receiver()
    job_id = receiver.running()
    body = orjson.dumps(SUCCESS["hiapi"]).ljust(MAX_BODY_BYTES)

    assert receiver.send(receiver.path(job_id), body).status_code == 200


# Tokens --------------------------------------------------------------------------------------


def alterations(receiver: Receiver) -> dict[str, str]:
    job_id, other = another_job_id(), another_job_id()
    _, root, provider, reference, token = receiver.path(job_id).split("/")

    def path(provider: str = provider, reference: str = reference, token: str = token) -> str:
        return f"/{root}/{provider}/{reference}/{token}"

    return {
        "forged": path(token=BAD_TOKEN),
        "truncated": path(token=token[:-1]),
        "lengthened": path(token=token + "A"),
        "padded": path(token=token + "="),
        "in lower case": path(token=token.lower()),
        "of another job": path(reference=f"{other}.1"),
        "of another attempt": path(reference=f"{job_id}.2"),
        "of another provider": path(provider="evolink"),
        "of an unknown provider": receiver.path(job_id, "no-such"),
        "with a leading zero": path(reference=f"{job_id}.01"),
        "without an attempt": path(reference=job_id),
        "with bytes that are no text": path(reference="%ff%fe.1"),
        "with a NUL": path(token=f"{token}%00"),
        "with a newline": path(token=f"{token}%0a"),
    }


def test_every_altered_address_is_404_and_all_are_answered_alike(guarded: Receiver) -> None:
    answers = {
        name: guarded.send(path, SUCCESS["hiapi"]) for name, path in alterations(guarded).items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        answers, 404
    )
    assert len({answer.data for answer in answers.values()}) == 1


def test_a_path_of_another_shape_is_404(guarded: Receiver) -> None:
    path = guarded.path(another_job_id())
    shorter = path.rpartition("/")[0]
    for other in (f"{path}/", f"{path}/more", f"{path}%2F..", shorter, "/callbacks", "/callbacks/"):
        assert guarded.send(other, SUCCESS["hiapi"]).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_callback_is_a_post(guarded: Receiver, method: str) -> None:
    answer = guarded.client.open(guarded.path(another_job_id()), method=method)

    assert answer.status_code == 405


# Signatures ----------------------------------------------------------------------------------


def test_every_signature_that_does_not_hold_is_401(guarded: Receiver) -> None:
    body, now = orjson.dumps(SUCCESS["hiapi"]), guarded.harness.clock() // 1000
    good = signed(body, now)
    refused: dict[str, dict[str, str]] = {
        "absent": {},
        "without a timestamp": {"X-HiAPI-Signature": good["X-HiAPI-Signature"]},
        "without a signature": {"X-HiAPI-Timestamp": str(now)},
        "stale": signed(body, now - 301),
        "from the future": signed(body, now + 301),
        "of another body": signed(body + b" ", now),
        "of another secret": signed(body, now, "whsec_of_somebody_else"),
        "not hexadecimal": {**good, "X-HiAPI-Signature": "\u00ff\u00e9"},
        "odd time": {**good, "X-HiAPI-Timestamp": f"{now}.0"},
    }

    answers = {
        name: guarded.send(guarded.path(another_job_id()), body, headers=headers).status_code
        for name, headers in refused.items()
    }

    assert answers == dict.fromkeys(refused, 401)


def test_a_signature_at_the_edge_of_the_window_is_accepted(open_receiver: Open) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    body, now = orjson.dumps(SUCCESS["hiapi"]), receiver.harness.clock() // 1000

    path = receiver.path(receiver.running())
    for off in (-300, 300):
        assert receiver.send(path, body, headers=signed(body, now + off)).status_code == 200


# Bodies --------------------------------------------------------------------------------------

NO_TASK = {
    "empty": b"",
    "not UTF-8": b'{"taskId":"\xff","status":"success"}',
    "not JSON": b"task-1 is a success",
    "cut off": b'{"taskId":"task-1","status":"succ',
    "trailing": b'{"taskId":"task-1","status":"success"} {}',
    "deep": b'{"taskId":"task-1","status":"success","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "null": b"null",
    "number": b"7",
    "string": b'"success"',
    "list": b'[{"taskId":"task-1","status":"success"},{"taskId":"task-2","status":"success"}]',
    "no id": b'{"status":"success"}',
    "no state": b'{"taskId":"task-1"}',
    "odd state": b'{"taskId":"task-1","status":["success"]}',
    "odd id": b'{"taskId":"a b","status":"success"}',
    "long id": b'{"taskId":"' + b"x" * 300 + b'","status":"success"}',
    "enveloped": b'{"code":200,"data":{"taskId":"task-1"}}',
}


@pytest.mark.parametrize("name", NO_TASK)
def test_a_body_that_is_no_task_is_400_and_kept_for_a_look(receiver: Receiver, name: str) -> None:
    job_id = receiver.running()

    answer = receiver.deliver(job_id, NO_TASK[name])

    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert receiver.job(job_id).status.value == "running"
    [kept] = receiver.harness.ledger.rejected.page(9)
    assert kept.context["reference"] == f"{job_id}.1"
    assert kept.context["provider"] == "hiapi"
    assert kept.reason
    assert kept.body == NO_TASK[name].decode("utf-8", "replace")[:2048]


def test_what_is_kept_of_a_rejected_body_is_capped(receiver: Receiver) -> None:
    job_id = receiver.running()

    receiver.deliver(job_id, b"x" * MAX_BODY_BYTES)

    [kept] = receiver.harness.ledger.rejected.page(9)
    assert len(kept.body) == 2048


@pytest.mark.parametrize(
    "body",
    [
        b'{"taskId":"other","taskId":"task-1","status":"queued","status":"fail"}',
        b' \n{"taskId":"task-1","status":"fail","error":{"code":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"taskId":"task-1","status":"fail","error":"\\u0000"}',
    ],
    ids=["the last of double names counts", "deep but allowed", "odd but harmless"],
)
def test_an_odd_body_that_is_a_task_is_taken(receiver: Receiver, body: bytes) -> None:
    job_id = receiver.running()

    assert receiver.deliver(job_id, body).json == {"result": "settled"}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "\u00e9/"])
def test_the_content_type_does_not_matter(receiver: Receiver, kind: str) -> None:
    job_id, body = receiver.running(), orjson.dumps(SUCCESS["hiapi"])

    answer = receiver.client.post(receiver.path(job_id), data=body, content_type=kind)

    assert answer.status_code == 200


# Logs ----------------------------------------------------------------------------------------


def test_no_log_line_holds_a_token_a_signature_or_a_secret(
    open_receiver: Open,
) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id, now = receiver.running(), receiver.harness.clock() // 1000
    good, bad = orjson.dumps(SUCCESS["hiapi"]), b"no JSON"
    path = receiver.path(job_id)
    sent = [
        (path, good, signed(good, now)),
        (path, good, signed(good, now)),
        (path, bad, signed(bad, now)),
        (path, good, {"X-HiAPI-Timestamp": str(now), "X-HiAPI-Signature": "f0" * 32}),
        (f"{path[:-1]}_", good, {}),
        (path, HUGE, {}),
    ]

    with log_text(logging.DEBUG) as text, structlog.testing.capture_logs() as logs:
        statuses = [receiver.send(p, b, headers=h).status_code for p, b, h in sent]

    assert statuses == [200, 200, 400, 401, 404, 200]
    logged = f"{logs} {text.getvalue()}"
    assert len(logs) == len(sent)
    for hidden in (path.rpartition("/")[2], f"{path[:-1]}_".rpartition("/")[2], "f0f0", SECRET):
        assert hidden not in logged
    for _, body, headers in sent:
        assert body.decode() not in logged
        assert headers.get("X-HiAPI-Signature", "f0f0") not in logged


def test_each_callback_is_one_log_line_that_names_its_job(receiver: Receiver) -> None:
    job_id = receiver.running()

    with structlog.testing.capture_logs() as logs:
        receiver.deliver(job_id, SUCCESS["hiapi"])

    [line] = logs
    named: dict[str, Any] = {"job": job_id, "provider": "hiapi", "attempt": 1, "state": "success"}
    assert line == {**line, **named, "event": "callback_received", "result": "settled"}
    assert TASK not in line.values()
