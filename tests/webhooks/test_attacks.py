"""Every attack on the receiver: its documented status, and not a byte of Redis changed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from orchestrator.cli.stack import ROOT
from orchestrator.jobs.model import Status
from orchestrator.ledger import keys
from tests.webhooks.conftest import Open
from tests.webhooks.kit import SECRET, Receiver, another_job_id, signed
from webhooks.receiver import MAX_BODY_BYTES, STATUS_OF

GOOD = b'{"taskId":"task-1","status":"success","output":[{"url":"https://cdn.example.com/0.png"}]}'


def everything(redis: Redis) -> dict[str, Any]:
    """All that is in Redis, timelines and counts included."""
    client: Any = redis
    read: Mapping[str, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "string": client.get,
        "stream": client.xrange,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter(count=1000)}


@dataclass(frozen=True)
class Attack:
    """What is sent, given the path of a job that waits for its callback; and what is answered."""

    status: int
    path: Callable[[Receiver, str], str] = lambda receiver, job_id: receiver.path(job_id)
    body: bytes = GOOD
    #: The headers' time, seconds from now; None: unsigned.
    signed: int | None = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    #: The body is none, so that it is kept among the rejected.
    rejected: bool = False


def token(change: Callable[[str], str]) -> Callable[[Receiver, str], str]:
    """The job's path with another token."""

    def path(receiver: Receiver, job_id: str) -> str:
        rest, _, last = receiver.path(job_id).rpartition("/")
        return f"{rest}/{change(last)}"

    return path


def part(number: int, value: str) -> Callable[[Receiver, str], str]:
    """The job's path with another part."""

    def path(receiver: Receiver, job_id: str) -> str:
        parts = receiver.path(job_id).split("/")
        parts[number] = value.format(job=job_id)
        return "/".join(parts)

    return path


def no_task(body: bytes) -> Attack:
    return Attack(400, body=body, rejected=True)


def swapped(receiver: Receiver, job_id: str) -> str:
    """Another running job's token."""
    other = receiver.path(receiver.harness.enqueue("hiapi"))
    return f"{receiver.path(job_id).rpartition('/')[0]}/{other.rpartition('/')[2]}"


DEEP = b'{"taskId":"task-1","status":"success","x":' + b"[" * 2000 + b"]" * 2000 + b"}"
ATTACKS: dict[str, Attack] = {
    # Tokens
    "a wrong token": Attack(404, token(lambda _: "A" * 43)),
    "a truncated token": Attack(404, token(lambda t: t[:-1])),
    "half a token": Attack(404, token(lambda t: t[:21])),
    "an empty token": Attack(404, token(lambda _: "")),
    "a lengthened token": Attack(404, token(lambda t: t + "A")),
    "a doubled token": Attack(404, token(lambda t: t + t)),
    "a token of 100,000 characters": Attack(404, token(lambda t: t * 2326)),
    "a token in other letters": Attack(404, token(str.swapcase)),
    "a token with unicode": Attack(404, token(lambda t: t[:-1] + "\u00e9\u4e16")),
    "a token with fullwidth letters": Attack(404, token(lambda t: "\uff21" + t[1:])),
    "a token with a percent-encoded slash": Attack(404, token(lambda t: t[:20] + "%2F" + t[20:])),
    "a token with bytes that are no text": Attack(404, token(lambda t: t[:-1] + "%ff%fe")),
    "another job's token": Attack(404, swapped),
    "the token for another attempt": Attack(404, part(3, "{job}.2")),
    "the token for another provider": Attack(404, part(2, "evolink")),
    "a provider that is none": Attack(404, part(2, "x" * 5000)),
    "no provider": Attack(404, part(2, "")),
    "dots for a provider": Attack(404, part(2, "..%2F..")),
    "a job id that is none": Attack(404, part(3, "{{orch:0}}:job.1")),
    "an attempt that is huge": Attack(404, part(3, "{job}.99999999999999999999")),
    "an attempt in other digits": Attack(404, part(3, "{job}.\u0661")),
    # Signatures
    "no signature": Attack(401, signed=None),
    "a signature too old": Attack(401, signed=-301),
    "a signature of the future": Attack(401, signed=301),
    "a replayed signature": Attack(401, signed=-86_400),
    "a wrong signature": Attack(401, headers={"X-HiAPI-Signature": "0" * 64}),
    "an empty signature": Attack(401, headers={"X-HiAPI-Signature": ""}),
    "a huge signature": Attack(401, headers={"X-HiAPI-Signature": "0" * 60_000}),
    "a time that is none": Attack(401, headers={"X-HiAPI-Timestamp": "now"}),
    "a time in other digits": Attack(401, headers={"X-HiAPI-Timestamp": "\u0661" * 10}),
    "a negative time": Attack(401, headers={"X-HiAPI-Timestamp": "-1"}),
    "an infinite time": Attack(401, headers={"X-HiAPI-Timestamp": "9" * 5000}),
    # Bodies
    "a huge body with a wrong token": Attack(
        404, token(lambda _: "A"), b" " * (MAX_BODY_BYTES + 1)
    ),
    "an empty body": no_task(b""),
    "a body that is not UTF-8": no_task(b'{"taskId":"\xff\xfe","status":"success"}'),
    "a body that is not JSON": no_task(b"task-1 is a success"),
    "a body that is XML": no_task(b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'),
    "a body that is cut off": no_task(GOOD[:-5]),
    "a deep body": no_task(DEEP),
    "a compressed body that is too large": no_task(gzip.compress(b" " * 5 * 1024 * 1024 + GOOD)),
    "a compressed body that is cut off": no_task(gzip.compress(GOOD)[:-9]),
    "a form without a task": no_task(b"data=%5B%5D&status=success"),
    "a body with a lone surrogate": no_task(b'{"taskId":"\\ud800","status":"success"}'),
    "two bodies": no_task(GOOD + GOOD),
    "no task id": no_task(b'{"status":"success"}'),
    "a task id that is an object": no_task(b'{"taskId":{"$ne":""},"status":"success"}'),
    "an empty task id": no_task(b'{"taskId":"","status":"success"}'),
    "a task id with a line break": no_task(b'{"taskId":"a\\nb","status":"success"}'),
    "doubled keys, the last of them wrong": no_task(b'{"taskId":"task-1","status":"x","status":7}'),
    # Methods and paths
    **{
        f"the method {method}": Attack(405, method=method)
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE")
    },
    "a question": Attack(200, method="OPTIONS"),
    "a path that goes on": Attack(404, token(lambda t: f"{t}/more")),
    "a slash at the end": Attack(404, token(lambda t: f"{t}/")),
}  # fmt: skip


@pytest.fixture
def receiver(open_receiver: Open) -> Receiver:
    return open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)


def sent(receiver: Receiver, path: str, attack: Attack) -> int:
    now = receiver.harness.clock() // 1000
    headers: dict[str, str] = (
        {} if attack.signed is None else signed(attack.body, now + attack.signed)
    )
    headers |= attack.headers
    answer = receiver.client.open(path, method=attack.method, data=attack.body, headers=headers)
    return answer.status_code


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_nothing_and_the_real_callback_settles(
    receiver: Receiver, name: str
) -> None:
    attack = ATTACKS[name]
    job_id = receiver.running()
    path = attack.path(receiver, job_id)
    before = everything(receiver.harness.redis)

    status = sent(receiver, path, attack)

    after = everything(receiver.harness.redis)
    kept = after.pop(keys.REJECTED, [])
    assert status == attack.status
    if attack.rejected:  # the provider called, so its task is polled at once
        assert receiver.harness.seconds_until_due(job_id) == 0
        flow = keys.flow(0, "poll", "hiapi", "tests")
        of_the_job = (keys.events(job_id), keys.job(job_id))
        changed = (*of_the_job, keys.agenda(0), flow, keys.flows(0), keys.changes(0))
        for key in changed:
            assert after.pop(key)
            before.pop(key)
    assert after == before
    assert receiver.job(job_id).status is Status.RUNNING
    assert bool(kept) == attack.rejected

    assert sent(receiver, receiver.path(job_id), Attack(200)) == 200
    assert receiver.job(job_id).status.terminal


def test_the_right_token_with_another_tasks_id_is_noted_and_changes_nothing_else(
    receiver: Receiver,
) -> None:
    job_id = receiver.running()
    before = everything(receiver.harness.redis)

    body = GOOD.replace(b"task-1", b"task-2")
    assert sent(receiver, receiver.path(job_id), Attack(409, body=body)) == 409

    after = everything(receiver.harness.redis)
    for key in (keys.job(job_id), keys.agenda(0)):
        assert after[key] == before[key]
    assert receiver.harness.events(job_id) == ["created", "submitting", "accepted", "mismatch"]


def test_any_number_of_wrong_task_ids_does_not_fill_redis(receiver: Receiver) -> None:
    job_id = receiver.running()
    path, body = receiver.path(job_id), GOOD.replace(b"task-1", b"task-2")
    for _ in range(150):
        assert sent(receiver, path, Attack(409, body=body)) == 409

    assert len(receiver.harness.events(job_id)) == 100
    assert sent(receiver, path, Attack(200)) == 200
    assert receiver.harness.events(job_id)[-1] == "settled"


@pytest.mark.parametrize("times", [1, 3])
def test_a_replay_is_counted_and_changes_nothing_else(receiver: Receiver, times: int) -> None:
    job_id = receiver.running()
    path = receiver.path(job_id)
    assert sent(receiver, path, Attack(200)) == 200
    before = receiver.job(job_id)

    for _ in range(times):
        assert sent(receiver, path, Attack(200)) == 200

    assert receiver.job(job_id) == before


def test_a_callback_of_a_settled_job_that_is_forgotten_is_404(receiver: Receiver) -> None:
    path = receiver.path(another_job_id())
    assert sent(receiver, path, Attack(404)) == 404
    assert everything(receiver.harness.redis) == {}


def test_a_body_that_is_cut_off_before_its_length_is_400_and_not_even_kept(
    receiver: Receiver,
) -> None:
    job_id = receiver.running()
    for body in (GOOD, b""):
        length = {"CONTENT_LENGTH": str(len(GOOD) + 10), "wsgi.input_terminated": True}
        answer = receiver.client.post(
            receiver.path(job_id), data=body, environ_overrides=length, headers=signed(body, 0)
        )
        assert answer.status_code == 400
        assert "cut off" in answer.text

    assert receiver.job(job_id).status is Status.RUNNING
    assert receiver.harness.ledger.rejected.page(1) == []


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 5000, "\u0665"])
def test_a_length_that_is_no_number_does_no_harm(receiver: Receiver, length: str) -> None:
    job_id = receiver.running()
    before = everything(receiver.harness.redis)
    answer = receiver.client.post(
        receiver.path(job_id), data=GOOD, environ_overrides={"CONTENT_LENGTH": length}
    )

    assert answer.status_code in {400, 401, 413}
    assert everything(receiver.harness.redis) == before


# The page ------------------------------------------------------------------------------------


def test_the_page_lists_every_status_that_is_answered_and_no_other() -> None:
    page = (ROOT / "docs" / "callbacks.md").read_text("utf-8")
    listed = {int(status) for status in re.findall(r"(?m)^\| (\d{3})\b", page)}

    assert listed == {*(a.status for a in ATTACKS.values()), *STATUS_OF.values(), 413, 503}


def test_the_page_lists_every_result_of_a_callback_that_is_taken() -> None:
    page = (ROOT / "docs" / "callbacks.md").read_text("utf-8")
    listed = set(re.findall(r"(?m)^\| 200 `(\w+)`", page))

    assert listed == {str(result) for result, status in STATUS_OF.items() if status == 200} | {
        "spooled"
    }
