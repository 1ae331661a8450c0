"""AI GPT Image, compared with its page, and the sandbox's own choices."""

import json
import re
import time
from io import BytesIO
from typing import Any

import pytest
import requests
from PIL import Image

from sandbox.aigptimage import ASPECT_RATIOS
from sandbox.tasks import TaskOutcome, TaskStatus
from tests.sandbox.conftest import Start
from tests.sandbox.kit import PAYLOADS, MovableClock, SandboxClient, links, run_together, task_id

CREATE = "/aigptimage/api/v1/jobs/createTask"
RECORD = "/aigptimage/api/v1/jobs/recordInfo"
DOCUMENTED = PAYLOADS / "aigptimage"
REQUEST = (DOCUMENTED / "text_to_image.json").read_bytes()
RATIOS = ["auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1"]
RATIOS += ["9:16", "16:9", "21:9"]


def _request_id(key: str) -> dict[str, str]:
    return {"X-Request-ID": key}


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "nano-banana-2-text-to-image", "input": {"prompt": "A red cube"}, **changes}


def _input(**changes: Any) -> dict[str, Any]:
    return _body(input={"prompt": "A red cube", **changes})


# The examples of the document


def test_answers_the_documented_request_as_documented(client: SandboxClient) -> None:
    answer = client.post(CREATE, data=REQUEST)

    assert answer.status_code == 200
    body, documented = answer.json(), (DOCUMENTED / "created.json").read_text()
    assert re.fullmatch(r"task_[0-9a-z]{13}", body["data"]["taskId"])
    body["data"]["taskId"] = "task_xxxxxxxxxxxxx"
    assert json.dumps(body, indent=2) == documented.strip()


def test_shows_the_documented_task_as_documented(client: SandboxClient) -> None:
    documented = (DOCUMENTED / "queried.json").read_text()
    before = int(time.time() * 1000)
    task = task_id(client.post(CREATE, data=REQUEST))
    client.finished("aigptimage", task)

    body = client.get(f"{RECORD}?taskId={task}").json()
    data = body["data"]

    assert before <= data["createTime"] <= data["completeTime"] <= time.time() * 1000
    assert data["costTime"] == data["completeTime"] - data["createTime"] >= 20
    link = f"{client.url}/files/{task}-0.png"
    assert data["resultJson"] == f'{{"resultUrls":["{link}"]}}'
    assert client.fetch(link).content.startswith(b"\x89PNG")
    example = json.loads(documented)["data"]
    for name in ("taskId", "resultJson", "costTime", "completeTime", "createTime"):
        data[name] = example[name]
    assert json.dumps(body, indent=2) == documented.strip()


def test_param_is_the_request_as_it_was_sent(client: SandboxClient) -> None:
    body = '{"input": {"resolution": "2K", "prompt": "Ein W\\u00fcrfel"}, '
    body += '"model": "nano-banana-2-text-to-image"}'
    task = task_id(client.post(CREATE, data=body))

    assert client.query("aigptimage", task)["param"] == (
        '{"model":"nano-banana-2-text-to-image","input":{"resolution":"2K","prompt":"Ein Würfel"}}'
    )


# Accepted and refused requests


@pytest.mark.parametrize(
    "body",
    [
        *(_input(resolution=resolution) for resolution in ("1K", "2K", "4K")),
        *(_input(output_format=kind) for kind in ("png", "jpg")),
        _input(prompt="x" * 20_000),
    ],
)
def test_accepts_what_the_page_allows(client: SandboxClient, body: object) -> None:
    assert client.post(CREATE, json=body).json()["code"] == 200


def test_has_the_documented_aspect_ratios() -> None:
    assert list(ASPECT_RATIOS) == RATIOS


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
        (_body(callBackUrl="https://example.com"), "callBackUrl: Unknown field"),
    ],
)
def test_refuses_in_the_envelope_only(client: SandboxClient, body: object, complaint: str) -> None:
    answer = client.post(CREATE, json=body)

    assert answer.status_code == 200
    assert list(answer.json()) == ["code", "msg", "data"]
    assert (answer.json()["code"], answer.json()["data"]) == (422, None)
    assert complaint in answer.json()["msg"]
    assert client.tasks() == []


@pytest.mark.parametrize("query", ["", "?taskId=", "?task_id=task_1"])
def test_a_query_needs_the_task_id(client: SandboxClient, query: str) -> None:
    answer = client.get(RECORD + query)

    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert "taskId" in answer.json()["msg"]


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (402, 200, "Insufficient credits"),
        (429, 429, "Request rate limit exceeded"),
        (500, 500, "Internal server error"),
    ],
)
def test_refuses_in_the_documented_words(
    client: SandboxClient, fault: int, status: int, message: str
) -> None:
    answer = client.submit("aigptimage", f"x [sandbox: {fault}]")

    assert answer.status_code == status
    assert answer.json() == {"code": fault, "msg": message, "data": None}
    assert client.charged("aigptimage") == 0


# The life of a task


def test_has_its_states_in_order(client: SandboxClient, clock: MovableClock) -> None:
    task = client.submitted("aigptimage", "A red cube [sandbox: slow=10000]")
    views = []
    for clock.ahead in (0, 5000, 15_000):
        views.append(client.query("aigptimage", task))

    assert [view["state"] for view in views] == ["waiting", "generating", "generating"]
    unknown = ("resultJson", "failCode", "failMsg", "costTime", "completeTime")
    for view in views:
        assert [view[name] for name in unknown] == [None] * 5
        assert view["createTime"]


def test_shows_a_failure_with_its_reason(client: SandboxClient) -> None:
    view = client.run("aigptimage", "x [sandbox: fail=501]")

    assert (view["state"], view["failCode"], view["resultJson"]) == ("fail", "501", None)
    assert view["failMsg"]
    assert view["costTime"] == view["completeTime"] - view["createTime"]


def test_the_control_api_shows_its_state(client: SandboxClient) -> None:
    task = client.submitted("aigptimage")
    client.finished("aigptimage", task)

    assert client.task(task)["provider_status"] == "success"


@pytest.mark.parametrize(("resolution", "price"), [("1K", 4.0), ("2K", 6.0), ("4K", 9.0)])
def test_charges_by_resolution(client: SandboxClient, resolution: str, price: float) -> None:
    task = client.submitted("aigptimage", resolution=resolution)

    assert client.task(task)["charged"] == {"amount": price, "unit": "credits", "refunded": False}


# The limit of active tasks


def _conflict(answer: requests.Response) -> str:
    assert (answer.status_code, answer.json()["code"]) == (200, 409)
    assert answer.json()["data"] is None
    return str(answer.json()["msg"])


def test_refuses_a_task_above_the_limit(start: Start) -> None:
    client = start(max_active_tasks=2, task_seconds=3600)
    # Tasks of other providers do not count.
    for number in range(3):
        client.submitted("evolink", f"Cube {number}")
    for number in range(2):
        client.submitted("aigptimage", f"Cube {number}")

    assert _conflict(client.submit("aigptimage")) == "Active task limit exceeded"

    assert client.charged("aigptimage") == len(client.tasks(provider="aigptimage")) == 2


def test_accepts_the_next_task_when_one_has_ended(start: Start) -> None:
    client = start(max_active_tasks=1)
    for prompt in ("x", "x [sandbox: fail]", "x"):
        client.run("aigptimage", prompt)
    client.submitted("aigptimage", "x [sandbox: slow=3600]")
    assert client.submit("aigptimage").json()["code"] == 409

    client.delete("/control/tasks")

    client.submitted("aigptimage")


def test_counts_exactly_with_many_submissions_at_once(start: Start) -> None:
    client = start(max_active_tasks=5, task_seconds=3600)
    codes: list[int] = []
    run_together(16, lambda _: codes.append(client.submit("aigptimage").json()["code"]))

    assert sorted(codes) == [200] * 5 + [409] * 11


def test_a_refusal_by_the_limit_frees_the_key(start: Start) -> None:
    client = start(max_active_tasks=1, task_seconds=3600)
    headers = {"X-Request-ID": "a"}
    running = client.submitted("aigptimage")
    assert client.submit("aigptimage", headers=headers).json()["code"] == 409
    assert client.state is not None
    task = client.state.store.get(running)
    assert task is not None
    client.state.store.finish(task, TaskOutcome(TaskStatus.SUCCEEDED), time.time())

    assert client.submitted("aigptimage", headers=headers) != running


def test_a_resend_is_not_one_more_task(start: Start) -> None:
    client = start(max_active_tasks=1, task_seconds=3600)
    headers = {"X-Request-ID": "a"}
    task = client.submitted("aigptimage", headers=headers)

    assert client.submitted("aigptimage", headers=headers) == task


# X-Request-ID


def test_a_request_id_returns_the_first_task(client: SandboxClient) -> None:
    headers: list[dict[str, str]] = [
        _request_id("a"),
        _request_id("a"),
        _request_id("b"),
        {"Idempotency-Key": "a"},
    ]
    first, second, *others = (client.submitted("aigptimage", headers=one) for one in headers)

    assert first == second
    assert len({first, *others}) == client.charged("aigptimage") == 3


def test_a_request_id_with_another_body_is_a_conflict(client: SandboxClient) -> None:
    client.submitted("aigptimage", "A red cube", headers=_request_id("a"))

    answer = client.submit("aigptimage", "A blue cube", headers=_request_id("a"))

    assert "another request body" in _conflict(answer)
    assert len(client.tasks()) == 1


def test_a_request_id_in_flight_is_a_conflict(client: SandboxClient) -> None:
    prompt = "x [sandbox: hang=3600]"
    with client.open_submission("aigptimage", prompt, _request_id("a")):
        answer = client.submit("aigptimage", prompt, headers=_request_id("a"))

    assert "in progress" in _conflict(answer)
    assert len(client.tasks()) == 1


def test_a_request_id_finds_the_task_of_a_lost_answer(client: SandboxClient) -> None:
    prompt = "x [sandbox: 503, lost_response]"
    assert client.submit("aigptimage", prompt, headers=_request_id("a")).status_code == 503
    with pytest.raises(requests.ConnectionError):
        client.submit("aigptimage", prompt, headers=_request_id("a"))

    task = client.submitted("aigptimage", prompt, headers=_request_id("a"))

    assert [view["id"] for view in client.tasks()] == [task]


# What it has in common with the others


def test_refuses_a_wrong_key_in_its_envelope(client: SandboxClient) -> None:
    answer = client.get(f"{RECORD}?taskId=x", headers={"Authorization": "Bearer wrong"})

    message = "Authentication failed or API key is invalid"
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "msg": message, "data": None})


def test_does_not_know_another_task(client: SandboxClient) -> None:
    body = client.get(f"{RECORD}?taskId=unknown").json()

    assert body == {"code": 404, "msg": "Task not found", "data": None}


def test_a_link_serves_the_requested_size(client: SandboxClient) -> None:
    (link,) = links(client.run("aigptimage", aspect_ratio="1:4", resolution="4K"))

    assert Image.open(BytesIO(client.fetch(link).content)).size == (256, 1024)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("content_policy", "content_policy_violation"),
        ("timeout", "timeout"),
    ],
)
def test_a_failure_has_its_own_code(client: SandboxClient, reason: str, code: str) -> None:
    view = client.run("aigptimage", f"x [sandbox: fail={reason}]")

    assert view["failCode"] == code
