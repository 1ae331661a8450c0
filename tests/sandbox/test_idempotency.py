"""HiAPI's Idempotency-Key: one key and body, one task, one charge."""

import threading

import pytest
import requests
from hiapi import HiAPI

from tests.sandbox.kit import KEY, Client, Clock, task_id, wait_until


def _key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_resend_leads_to_the_first_task_and_is_not_charged(client: Client) -> None:
    first = client.submit("hiapi", headers=_key("job_1.1"))
    second = client.submit("hiapi", headers=_key("job_1.1"))

    assert task_id(second) == task_id(first)
    assert "Idempotent-Replay" not in first.headers
    assert second.headers["Idempotent-Replay"] == "true"
    (task,) = client.tasks()
    assert task["submissions"] == 2
    assert task["idempotency_key"] == "job_1.1"
    assert client.get("/control/ledger").json()["hiapi"]["tasks"] == 1


def test_another_key_or_none_is_another_task(client: Client) -> None:
    answers = [
        client.submit("hiapi", headers=headers) for headers in (_key("a"), _key("b"), {}, {})
    ]

    assert len({task_id(answer) for answer in answers}) == 4


def test_the_same_key_with_another_body_is_a_mismatch(client: Client) -> None:
    client.submit("hiapi", "A red cube", headers=_key("a"))

    answer = client.submit("hiapi", "A blue cube", headers=_key("a"))

    assert answer.status_code == 422
    assert answer.json()["error_code"] == "IDEMPOTENCY_KEY_MISMATCH"
    assert len(client.tasks()) == 1


def test_a_resend_in_flight_is_told_to_come_back(client: Client) -> None:
    prompt = "x [sandbox: hang=30]"
    hung = threading.Thread(target=_submit_and_give_up, args=(client, prompt))
    hung.start()
    wait_until(client.tasks)

    same = client.submit("hiapi", prompt, headers=_key("a"))
    other = client.submit("hiapi", "y", headers=_key("a"))
    hung.join()

    assert same.status_code == 409
    assert same.json()["error_code"] == "IDEMPOTENCY_KEY_PROCESSING"
    assert same.headers["Retry-After"] == "1"
    assert other.status_code == 422
    assert len(client.tasks()) == 1


def _submit_and_give_up(client: Client, prompt: str) -> None:
    body = {"model": "Nano-Banana-2", "input": {"prompt": prompt}}
    headers = {"Authorization": f"Bearer {KEY}", **_key("a")}
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{client.url}/hiapi/v1/tasks", json=body, headers=headers, timeout=0.5)


def test_many_resends_at_once_create_one_task(client: Client) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(client.submit("hiapi", headers=_key("a")).status_code)
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert len(client.tasks()) == 1


def test_a_refused_submission_leaves_the_key_free(client: Client) -> None:
    prompt = "x [sandbox: 503]"

    assert client.submit("hiapi", prompt, headers=_key("a")).status_code == 503
    second = client.submit("hiapi", prompt, headers=_key("a"))

    assert second.status_code == 200
    assert "Idempotent-Replay" not in second.headers


def test_a_lost_answer_is_found_again_by_its_key(client: Client) -> None:
    prompt = "x [sandbox: lost_response*2]"
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            client.submit("hiapi", prompt, headers=_key("a"))

    third = client.submit("hiapi", prompt, headers=_key("a"))

    assert third.headers["Idempotent-Replay"] == "true"
    (task,) = client.tasks()
    assert task["id"] == task_id(third)
    assert task["submissions"] == 3


def test_a_key_is_forgotten_after_a_day(client: Client, clock: Clock) -> None:
    first = client.submit("hiapi", headers=_key("a"))
    clock.ahead = 23.9 * 3600
    assert task_id(client.submit("hiapi", headers=_key("a"))) == task_id(first)

    clock.ahead = 24.1 * 3600
    assert task_id(client.submit("hiapi", headers=_key("a"))) != task_id(first)


@pytest.mark.parametrize(("length", "status"), [(255, 200), (256, 400)])
def test_a_key_has_at_most_255_bytes(client: Client, length: int, status: int) -> None:
    assert client.submit("hiapi", headers=_key("k" * length)).status_code == status


def test_the_sdk_sees_the_replay(client: Client) -> None:
    sdk = HiAPI(api_key=KEY, base_url=f"{client.url}/hiapi")
    created = [
        sdk.tasks.create(model="Nano-Banana-2", input={"prompt": "x"}, idempotency_key="k")
        for _ in range(2)
    ]

    assert [task.idempotent_replay for task in created] == [False, True]
    assert created[0].task_id == created[1].task_id


def test_evolink_has_no_keys(client: Client) -> None:
    answers = [client.submit("evolink", headers=_key("a")) for _ in range(2)]

    assert len({task_id(answer) for answer in answers}) == 2
    assert client.get("/control/ledger").json()["evolink"]["tasks"] == 2
