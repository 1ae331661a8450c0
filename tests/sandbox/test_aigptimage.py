"""AI GPT Image: what its page says, its published key, and the sandbox's own choices."""

import json
import re
import threading
import time
from typing import Any

import pytest
import requests

from sandbox.faults import Faults
from sandbox.tasks import Charge, Outcome, Status, Task, TaskStore
from tests.sandbox.conftest import Start
from tests.sandbox.kit import KEY, PAYLOADS, Client, Clock, task_id, wait_until

CREATE = "/aigptimage/api/v1/jobs/createTask"
RECORD = "/aigptimage/api/v1/jobs/recordInfo"
DOCUMENTED = PAYLOADS / "aigptimage"
REQUEST = (DOCUMENTED / "text_to_image.json").read_bytes()
RATIOS = ["auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1"]
RATIOS += ["9:16", "16:9", "21:9"]


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "nano-banana-2-text-to-image", "input": {"prompt": "A red cube"}, **changes}


def _input(**changes: Any) -> dict[str, Any]:
    return _body(input={"prompt": "A red cube", **changes})


def _key(key: str) -> dict[str, str]:
    return {"X-Request-ID": key}


def _charged(client: Client) -> int:
    return int(client.get("/control/ledger").json().get("aigptimage", {"tasks": 0})["tasks"])


# The document's examples


def test_answers_the_documented_request_as_documented(client: Client) -> None:
    answer = client.post(CREATE, data=REQUEST)

    assert answer.status_code == 200
    seen, documented = answer.json(), (DOCUMENTED / "created.json").read_text()
    assert re.fullmatch(r"task_[0-9a-z]{13}", seen["data"]["taskId"])
    seen["data"]["taskId"] = "task_xxxxxxxxxxxxx"
    assert json.dumps(seen, indent=2) == documented.strip()


def test_shows_the_documented_task_as_documented(client: Client) -> None:
    documented = (DOCUMENTED / "queried.json").read_text()
    before = int(time.time() * 1000)
    task = task_id(client.post(CREATE, data=REQUEST))
    client.finished("aigptimage", task)

    seen = client.get(f"{RECORD}?taskId={task}").json()
    data = seen["data"]

    assert before <= data["createTime"] <= data["completeTime"] <= time.time() * 1000
    assert data["costTime"] == data["completeTime"] - data["createTime"] >= 20
    link = f"{client.url}/files/{task}-0.png"
    assert data["resultJson"] == f'{{"resultUrls":["{link}"]}}'
    assert client.session.get(link, timeout=5).content.startswith(b"\x89PNG")
    example = json.loads(documented)["data"]
    for name in ("taskId", "resultJson", "costTime", "completeTime", "createTime"):
        data[name] = example[name]
    assert json.dumps(seen, indent=2) == documented.strip()


def test_param_is_the_request_as_it_was_sent(client: Client) -> None:
    body = '{"input": {"resolution": "2K", "prompt": "Ein W\\u00fcrfel"}, '
    body += '"model": "nano-banana-2-text-to-image"}'
    task = task_id(client.post(CREATE, data=body))

    assert client.query("aigptimage", task)["param"] == (
        '{"model":"nano-banana-2-text-to-image","input":{"resolution":"2K","prompt":"Ein Würfel"}}'
    )


# What is taken and refused


@pytest.mark.parametrize(
    "body",
    [
        *(_input(aspect_ratio=ratio) for ratio in RATIOS),
        *(_input(resolution=resolution) for resolution in ("1K", "2K", "4K")),
        *(_input(output_format=kind) for kind in ("png", "jpg")),
        _input(prompt="x" * 20_000),
    ],
)
def test_takes_what_the_page_allows(client: Client, body: object) -> None:
    assert client.post(CREATE, json=body).json()["code"] == 200


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"input": {"prompt": "x"}}, "model: Missing"),
        (_body(model=7), "model: Not a valid string"),
        (_body(model="Nano-Banana-2"), "model: Must be one of nano-banana-2-text-to-image."),
        ({"model": "nano-banana-2-text-to-image"}, "input: Missing"),
        (_body(input=[]), "input: Invalid"),
        (_body(input={}), "input.prompt: Missing"),
        (_input(prompt=7), "input.prompt: Not a valid string"),
        (_input(prompt=""), "input.prompt: Length must be between 1 and 20000."),
        (_input(prompt="x" * 20_001), "input.prompt: Length must be between 1 and 20000."),
        (_input(aspect_ratio="7:3"), "input.aspect_ratio: Must be one of auto, 1:1"),
        (_input(resolution="0.5K"), "input.resolution: Must be one of 1K, 2K, 4K."),
        (_input(output_format="jpeg"), "input.output_format: Must be one of png, jpg."),
        (_input(image_input=[]), "input.image_input: Unknown field"),
        (_input(image_urls=["https://example.com/a.png"]), "input.image_urls: Unknown field"),
        (_input(n=1), "input.n: Unknown field"),
        (_body(callback={"url": "https://example.com"}), "callback: Unknown field"),
        (_body(callBackUrl="https://example.com"), "callBackUrl: Unknown field"),
    ],
)
def test_refuses_what_the_page_does_not_allow_in_the_envelope_only(
    client: Client, body: object, complaint: str
) -> None:
    answer = client.post(CREATE, json=body)

    assert answer.status_code == 200
    assert list(answer.json()) == ["code", "msg", "data"]
    assert (answer.json()["code"], answer.json()["data"]) == (422, None)
    assert complaint in answer.json()["msg"]
    assert client.tasks() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_refuses_a_body_that_is_no_object(client: Client, body: bytes) -> None:
    answer = client.post(CREATE, data=body)

    assert (answer.status_code, answer.json()["code"]) == (400, 400)


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", KEY])
@pytest.mark.parametrize(("method", "path"), [("POST", CREATE), ("GET", f"{RECORD}?taskId=x")])
def test_refuses_a_wrong_key(client: Client, header: str | None, method: str, path: str) -> None:
    answer = client.session.request(
        method, client.url + path, headers={"Authorization": header}, timeout=5
    )

    assert answer.status_code == 401
    assert answer.json() == {
        "code": 401,
        "msg": "Authentication failed or API key is invalid",
        "data": None,
    }


def test_knows_no_other_tasks(client: Client) -> None:
    for task in ("task_unknown", client.submitted("uniall")):
        answer = client.get(f"{RECORD}?taskId={task}")

        assert answer.status_code == 404
        assert answer.json() == {"code": 404, "msg": "Task not found", "data": None}


@pytest.mark.parametrize("query", ["", "?taskId=", "?task_id=task_1"])
def test_asks_for_the_task_id(client: Client, query: str) -> None:
    answer = client.get(RECORD + query)

    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert "taskId" in answer.json()["msg"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/aigptimage/api/v1/jobs", 404), ("GET", CREATE, 405), ("POST", RECORD, 405)],
)
def test_refuses_unknown_routes_in_its_own_envelope(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.session.request(method, client.url + path, timeout=5)

    assert (answer.status_code, answer.json()["code"]) == (status, status)


@pytest.mark.parametrize(
    ("status", "words"), [(429, "Request rate limit exceeded"), (500, "Internal server error")]
)
def test_refuses_in_the_documented_words(client: Client, status: int, words: str) -> None:
    answer = client.submit("aigptimage", f"x [sandbox: {status}]")

    assert answer.status_code == status
    assert answer.json() == {"code": status, "msg": words, "data": None}


def test_wants_credits_in_the_envelope_only(client: Client) -> None:
    answer = client.submit("aigptimage", "x [sandbox: 402]")

    assert answer.status_code == 200
    assert answer.json() == {"code": 402, "msg": "Insufficient credits", "data": None}
    assert _charged(client) == 0


# A task's life


def test_passes_through_its_states_in_order(client: Client, clock: Clock) -> None:
    task = client.submitted("aigptimage", "A red cube [sandbox: slow=100]")
    seen = []
    for ahead in (0, 50, 150):
        clock.ahead = ahead
        seen.append(client.query("aigptimage", task))

    assert [data["state"] for data in seen] == ["waiting", "generating", "generating"]
    unknown = ("resultJson", "failCode", "failMsg", "costTime", "completeTime")
    for data in seen:
        assert [data[name] for name in unknown] == [None] * 5
        assert data["createTime"]


@pytest.mark.parametrize(
    ("wish", "code"), [("fail", "content_policy_violation"), ("fail=501", "501")]
)
def test_shows_a_failure_with_its_reason(client: Client, wish: str, code: str) -> None:
    task = client.submitted("aigptimage", f"x [sandbox: {wish}]")
    seen = client.finished("aigptimage", task)

    assert (seen["state"], seen["failCode"], seen["resultJson"]) == ("fail", code, None)
    assert seen["failMsg"]
    assert seen["costTime"] == seen["completeTime"] - seen["createTime"]


def test_the_control_api_shows_its_state(client: Client) -> None:
    task = client.submitted("aigptimage")
    client.finished("aigptimage", task)

    assert client.task(task)["provider_status"] == "success"


@pytest.mark.parametrize(("resolution", "price"), [("1K", 4.0), ("2K", 6.0), ("4K", 9.0)])
def test_charges_by_resolution(client: Client, resolution: str, price: float) -> None:
    task = client.submitted("aigptimage", resolution=resolution)

    assert client.task(task)["charged"] == {"amount": price, "unit": "credits", "refunded": False}


# The active task limit


def _conflict(answer: requests.Response) -> str:
    assert (answer.status_code, answer.json()["code"]) == (200, 409)
    assert answer.json()["data"] is None
    return str(answer.json()["msg"])


def test_refuses_one_task_more_than_may_be_active(start: Start) -> None:
    client = start(aigptimage_active_tasks=2)
    # Those of other providers do not count.
    for number in range(3):
        client.submitted("uniall", f"Cube {number} [sandbox: slow=60]")
    for number in range(2):
        client.submitted("aigptimage", f"Cube {number} [sandbox: slow=60]")

    assert _conflict(client.submit("aigptimage")) == "Active task limit exceeded"

    assert _charged(client) == len(client.tasks(provider="aigptimage")) == 2


def test_takes_the_next_task_when_one_has_ended(start: Start) -> None:
    client = start(aigptimage_active_tasks=1)
    for wish in ("x", "x [sandbox: fail]", "x"):
        client.finished("aigptimage", client.submitted("aigptimage", wish))
    client.submitted("aigptimage", "x [sandbox: slow=60]")
    assert client.submit("aigptimage").json()["code"] == 409

    client.delete("/control/tasks")

    client.submitted("aigptimage")


def test_counts_exactly_however_many_come_at_once(start: Start) -> None:
    client = start(aigptimage_active_tasks=5, task_seconds=60)
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: codes.append(client.submit("aigptimage").json()["code"]),
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(codes) == [200] * 5 + [409] * 11


def test_a_refusal_by_the_limit_leaves_the_key_free(start: Start) -> None:
    client = start(aigptimage_active_tasks=1)
    running = client.submitted("aigptimage", "x [sandbox: slow=100ms]")
    assert client.submit("aigptimage", headers=_key("a")).json()["code"] == 409
    client.finished("aigptimage", running)

    assert client.submitted("aigptimage", headers=_key("a")) != running


def test_a_resend_is_no_task_more(start: Start) -> None:
    client = start(aigptimage_active_tasks=1, task_seconds=60)
    task = client.submitted("aigptimage", headers=_key("a"))

    assert client.submitted("aigptimage", headers=_key("a")) == task


def test_tasks_that_were_dropped_or_ended_twice_do_not_count() -> None:
    store = TaskStore(max_tasks=2)
    tasks = [_running(number) for number in range(3)]
    for task in tasks:
        assert store.add(task, 3)
    assert store.add(_running(3), 3)
    assert not store.add(_running(4), 2)
    store.finish(tasks[2], Outcome(Status.SUCCEEDED), 1.0)
    store.finish(tasks[2], Outcome(Status.SUCCEEDED), 1.0)
    assert store.add(_running(5), 2)
    assert not store.add(_running(6), 2)


def _running(number: int) -> Task:
    return Task(
        id=f"task-{number}",
        provider="aigptimage",
        model="x",
        prompt="x",
        callback_url=None,
        charge=Charge(1.0, "credits"),
        pictures=(),
        link_base="",
        faults=Faults(),
        idempotency_key=None,
        created_at=0.0,
        runs_for=1.0,
        links_live_for=1.0,
    )


# X-Request-ID


def test_a_resend_leads_to_the_first_task_and_is_not_charged(client: Client) -> None:
    tasks = [client.submitted("aigptimage", headers=_key("job_1.1")) for _ in range(2)]

    assert tasks[0] == tasks[1]
    (task,) = client.tasks()
    assert (task["submissions"], task["idempotency_key"]) == (2, "job_1.1")
    assert _charged(client) == 1


def test_another_key_or_none_is_another_task(client: Client) -> None:
    headers: list[dict[str, str]] = [_key("a"), _key("b"), {"Idempotency-Key": "a"}, {}, {}]

    assert len({client.submitted("aigptimage", headers=one) for one in headers}) == 5


def test_the_same_key_with_another_body_is_a_conflict(client: Client) -> None:
    client.submitted("aigptimage", "A red cube", headers=_key("a"))

    answer = client.submit("aigptimage", "A blue cube", headers=_key("a"))

    assert "another request body" in _conflict(answer)
    assert len(client.tasks()) == 1


def test_a_resend_in_flight_is_a_conflict(client: Client) -> None:
    prompt = "x [sandbox: hang=30]"
    hung = threading.Thread(target=_submit_and_give_up, args=(client, prompt))
    hung.start()
    wait_until(client.tasks)

    answer = client.submit("aigptimage", prompt, headers=_key("a"))
    hung.join()

    assert "in progress" in _conflict(answer)
    assert len(client.tasks()) == 1


def _submit_and_give_up(client: Client, prompt: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", **_key("a")}
    with pytest.raises(requests.ReadTimeout):
        requests.post(client.url + CREATE, json=_input(prompt=prompt), headers=headers, timeout=0.5)


def test_a_lost_answer_is_found_again_by_its_key(client: Client) -> None:
    prompt = "x [sandbox: 503, lost_response]"
    assert client.submit("aigptimage", prompt, headers=_key("a")).status_code == 503
    with pytest.raises(requests.ConnectionError):
        client.submit("aigptimage", prompt, headers=_key("a"))

    task = client.submitted("aigptimage", prompt, headers=_key("a"))

    assert [seen["id"] for seen in client.tasks()] == [task]
