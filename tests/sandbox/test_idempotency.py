"""Idempotency keys: one key and body, one task, one charge."""

import pytest
import requests
from hiapi import HiAPI

from sandbox.idempotency import IdempotencyKeys, KeyInFlightError
from tests.sandbox.kit import (
    KEY,
    MovableClock,
    SandboxClient,
    run_together,
    stored_task,
    task_id,
)


def _key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_resend_returns_the_first_task_and_is_not_charged(client: SandboxClient) -> None:
    first = client.submit("hiapi", headers=_key("job_1.1"))
    second = client.submit("hiapi", headers=_key("job_1.1"))

    assert task_id(second) == task_id(first)
    assert "Idempotent-Replay" not in first.headers
    assert second.headers["Idempotent-Replay"] == "true"
    (task,) = client.tasks()
    assert (task["submissions"], task["idempotency_key"]) == (2, "job_1.1")
    assert client.charged("hiapi") == 1


def test_another_key_or_none_is_another_task(client: SandboxClient) -> None:
    headers: list[dict[str, str]] = [_key("a"), _key("b"), {}, {}]

    assert len({client.submitted("hiapi", headers=one) for one in headers}) == 4


def test_the_same_key_with_another_body_is_a_mismatch(client: SandboxClient) -> None:
    client.submit("hiapi", "A red cube", headers=_key("a"))

    answer = client.submit("hiapi", "A blue cube", headers=_key("a"))

    assert answer.status_code == 422
    assert answer.json()["error_code"] == "IDEMPOTENCY_KEY_MISMATCH"
    assert len(client.tasks()) == 1


def test_a_resend_in_flight_has_a_retry_after(client: SandboxClient) -> None:
    prompt = "x [sandbox: hang=3600]"
    with client.open_submission("hiapi", prompt, _key("a")):
        same = client.submit("hiapi", prompt, headers=_key("a"))
        other = client.submit("hiapi", "y", headers=_key("a"))

    assert same.status_code == 409
    assert same.json()["error_code"] == "IDEMPOTENCY_KEY_PROCESSING"
    assert same.headers["Retry-After"] == "1"
    assert other.status_code == 422
    assert len(client.tasks()) == 1


def test_many_resends_at_once_create_one_task(client: SandboxClient) -> None:
    answers: list[int] = []
    run_together(
        16,
        lambda _: answers.append(client.submit("hiapi", headers=_key("a")).status_code),
    )

    assert set(answers) <= {200, 409}
    assert 200 in answers
    assert len(client.tasks()) == 1


def test_a_refused_submission_frees_the_key(client: SandboxClient) -> None:
    prompt = "x [sandbox: 503]"

    assert client.submit("hiapi", prompt, headers=_key("a")).status_code == 503
    second = client.submit("hiapi", prompt, headers=_key("a"))

    assert second.status_code == 200
    assert "Idempotent-Replay" not in second.headers


def test_a_key_finds_the_task_of_a_lost_answer(client: SandboxClient) -> None:
    prompt = "x [sandbox: lost_response*2]"
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            client.submit("hiapi", prompt, headers=_key("a"))

    third = client.submit("hiapi", prompt, headers=_key("a"))

    assert third.headers["Idempotent-Replay"] == "true"
    (task,) = client.tasks()
    assert (task["id"], task["submissions"]) == (task_id(third), 3)


def test_a_request_that_was_forgotten_does_not_settle_a_newer_one(clock: MovableClock) -> None:
    keys = IdempotencyKeys(clock)
    old = keys.claim("a", b"digest")
    keys.clear()
    new = keys.claim("a", b"digest")

    for task_of_old in (stored_task("old"), None):
        keys.settle("a", old, task_of_old)

    with pytest.raises(KeyInFlightError):
        keys.claim("a", b"digest")
    task = stored_task("new")
    keys.settle("a", new, task)
    assert keys.claim("a", b"digest").task is task


def test_a_key_is_forgotten_after_a_day(client: SandboxClient, clock: MovableClock) -> None:
    first = client.submitted("hiapi", headers=_key("a"))
    clock.ahead = 23.9 * 3600
    assert client.submitted("hiapi", headers=_key("a")) == first

    clock.ahead = 24.1 * 3600
    assert client.submitted("hiapi", headers=_key("a")) != first


@pytest.mark.parametrize(("length", "status"), [(255, 200), (256, 400)])
def test_a_key_has_at_most_255_bytes(client: SandboxClient, length: int, status: int) -> None:
    assert client.submit("hiapi", headers=_key("k" * length)).status_code == status


def test_the_sdk_reads_the_replay(client: SandboxClient) -> None:
    sdk = HiAPI(api_key=KEY, base_url=f"{client.url}/hiapi")
    created = [
        sdk.tasks.create(model="Nano-Banana-2", input={"prompt": "x"}, idempotency_key="k")
        for _ in range(2)
    ]

    assert [task.idempotent_replay for task in created] == [False, True]
    assert created[0].task_id == created[1].task_id


def test_a_provider_without_keys_creates_a_task_for_each_request(client: SandboxClient) -> None:
    headers = {**_key("a"), "X-Request-ID": "a"}
    tasks = {client.submitted("evolink", headers=headers) for _ in range(2)}

    assert len(tasks) == client.charged("evolink") == 2
