"""HiAPI, compared with its page, its published async API and its SDK."""

import json
import re
import time
from typing import Any

import pytest
from hiapi import HiAPI, InvalidRequestError, ModelUnavailableError, NotFoundError
from hiapi.errors import AuthenticationError, TaskFailed, WebhookVerificationError
from hiapi.webhooks import verify_webhook

from sandbox.hiapi import ASPECT_RATIOS
from tests.sandbox.conftest import Start
from tests.sandbox.kit import (
    HIAPI_SECRET,
    KEY,
    PAYLOADS,
    CallbackReceiver,
    MovableClock,
    SandboxClient,
)

RATIOS = ["auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1"]
RATIOS += ["9:16", "16:9", "21:9"]


@pytest.fixture
def sdk(client: SandboxClient) -> HiAPI:
    return HiAPI(api_key=KEY, base_url=f"{client.url}/hiapi", max_retries=0)


@pytest.mark.parametrize("name", ["text_to_image", "reference"])
def test_accepts_the_documented_request_byte_for_byte(client: SandboxClient, name: str) -> None:
    body = (PAYLOADS / "hiapi" / f"{name}.json").read_bytes()

    answer = client.post("/hiapi/v1/tasks", data=body)

    assert answer.status_code == 200
    assert set(answer.json()) == {"code", "message", "data"}
    assert answer.json()["code"] == 200
    assert re.fullmatch(r"tk-hiapi-[0-9A-Z]{26}", answer.json()["data"]["taskId"])
    assert client.tasks()[0]["prompt"] == json.loads(body)["input"]["prompt"]


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "Nano-Banana-2", "input": {"prompt": "A red cube"}, **changes}


def _input(**changes: Any) -> dict[str, Any]:
    return _body(input={"prompt": "x", **changes})


def test_refuses_what_the_page_does_not_allow(client: SandboxClient) -> None:
    for body, complaint in [
        ({"input": {"prompt": "x"}}, "model: Missing"),
        (_body(model=7), "model: Not a valid string. Got: 7."),
        ({"model": "Nano-Banana-2"}, "input: Missing"),
        (_body(input=[]), "input: Invalid"),
        (_body(input={}), "input.prompt: Missing data for required field. Got: nothing."),
        (_input(prompt=""), "input.prompt: Shorter than minimum length 1."),
        (_input(prompt=7), "input.prompt: Not a valid string."),
        (_input(image_input="https://example.com/a.png"), "input.image_input"),
        (_input(image_input=["nowhere"]), "input.image_input.0: Not a valid URL"),
        (_input(aspect_ratio="7:3"), "input.aspect_ratio: Must be one of auto, 1:1"),
        (_input(resolution="8K"), "input.resolution: Must be one of 1K, 2K, 4K."),
        (_input(output_format="webp"), "input.output_format: Must be one of png, jpg."),
        (_input(callback="u"), "input.callback: Unknown field."),
        (_body(callback={}), "callback.url: Missing"),
        (_body(callback={"url": "nowhere"}), "callback.url: Must be an absolute URL."),
        (_body(callback={"url": "http://h:port/"}), "callback.url: Must be an absolute URL."),
        (
            _body(callback={"url": "http://h/", "when": "start"}),
            "callback.when: Must be one of final.",
        ),
        (_body(route="pro"), "route: Must be one of default."),
        (_body(n=2), "n: Unknown field."),
    ]:
        answer = client.post("/hiapi/v1/tasks", json=body)

        assert answer.status_code == 400
        assert answer.json()["error_code"] == "INVALID_REQUEST"
        assert answer.json()["data"] is None
        assert complaint in answer.json()["message"]
        assert client.tasks() == []


def test_names_its_models_when_it_refuses_another(client: SandboxClient) -> None:
    answer = client.post("/hiapi/v1/tasks", json=_body(model="Nano-Banana-9"))

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "MODEL_UNAVAILABLE"
    assert "Nano-Banana-2" in answer.json()["message"]


def test_has_the_documented_aspect_ratios() -> None:
    assert list(ASPECT_RATIOS) == RATIOS


@pytest.mark.parametrize("url", ["http://example.com/cb", "ftp://example.com/cb"])
def test_accepts_only_https_callback_urls(start: Start, url: str) -> None:
    client = start(allow_http=False)

    assert client.submit("hiapi", callback=url).status_code == 400
    assert client.submit("hiapi", callback="https://example.com/cb").status_code == 200


def test_402_has_its_own_words(client: SandboxClient) -> None:
    answer = client.submit("hiapi", "x [sandbox: 402]")

    assert answer.status_code == 402
    assert answer.json() == {"code": 402, "message": "insufficient credits", "data": None}


# The life of a task


def test_has_its_states_in_order(client: SandboxClient, clock: MovableClock) -> None:
    task = client.submitted("hiapi", "A red cube [sandbox: slow=10000]")
    views = []
    for clock.ahead in (0, 5000, 9000):
        views.append(client.query("hiapi", task))

    assert [view["status"] for view in views] == ["queued", "handling", "archiving"]
    for view in views:
        assert view["completed"] == 0
        assert "output" not in view
        assert "error" not in view


def test_shows_a_success_with_its_output(client: SandboxClient) -> None:
    before = int(time.time())
    task = client.submitted("hiapi", output_format="jpg")
    view = client.finished("hiapi", task)

    assert set(view) == {"taskId", "model", "status", "created", "completed", "output"}
    assert (view["taskId"], view["status"]) == (task, "success")
    assert before <= view["created"] <= view["completed"] <= time.time()
    (output,) = view["output"]
    assert output == {
        "url": f"{client.url}/files/{task}-0.jpg",
        "type": "image",
        "expireAt": view["completed"] + 7 * 24 * 3600,
    }


def test_shows_a_failure_with_its_error(client: SandboxClient) -> None:
    view = client.run("hiapi", "x [sandbox: fail=TASK_TIMEOUT]")

    assert view["status"] == "fail"
    assert view["error"]["code"] == "TASK_TIMEOUT"
    assert view["error"]["message"]
    assert "output" not in view


def test_lists_newest_first_in_pages(client: SandboxClient) -> None:
    tasks = [client.submitted("hiapi", f"Cube {number}") for number in range(5)]
    client.submitted("evolink")
    client.submitted("hiapi", "x [sandbox: forget]")

    page = client.get("/hiapi/v1/tasks?page=2&size=2").json()["data"]

    assert (page["page"], page["size"], page["total"]) == (2, 2, 5)
    assert [task["taskId"] for task in page["tasks"]] == [tasks[2], tasks[1]]


@pytest.mark.parametrize("query", ["page=0&size=0", "page=x&size=101", "page=-1&size=-1", ""])
def test_lists_with_defaults_for_a_page_out_of_range(client: SandboxClient, query: str) -> None:
    page = client.get(f"/hiapi/v1/tasks?{query}").json()["data"]

    assert (page["page"], page["size"]) == (1, 20)


@pytest.mark.parametrize(("resolution", "price"), [("1K", 1.0), ("2K", 1.5), ("4K", 3.0)])
def test_charges_by_resolution(client: SandboxClient, resolution: str, price: float) -> None:
    task = client.submitted("hiapi", resolution=resolution)

    assert client.task(task)["charged"] == {"amount": price, "unit": "credits", "refunded": False}


# Callbacks


def test_calls_back_with_the_data_of_the_query(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    task = client.submitted("hiapi", callback=receiver.url())
    (callback,) = receiver.wait_for(1)

    assert callback.path == "/callbacks/hiapi/job_1.1/AbCdEf"
    assert callback.headers["Content-Type"] == "application/json"
    assert json.loads(callback.body) == client.query("hiapi", task)


def test_signs_callbacks_as_the_sdk_verifies_them(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    task = client.submitted("hiapi", "Ein grüner Würfel", callback=receiver.url())
    (callback,) = receiver.wait_for(1)
    headers: dict[str, Any] = {
        "signature": callback.headers["X-HiAPI-Signature"],
        "timestamp": callback.headers["X-HiAPI-Timestamp"],
    }

    verified = verify_webhook(callback.body, secret=HIAPI_SECRET, **headers)

    assert verified.task_id == task
    assert verified.succeeded
    with pytest.raises(WebhookVerificationError):
        verify_webhook(callback.body + b" ", secret=HIAPI_SECRET, **headers)


def test_signs_nothing_without_a_secret(start: Start, receiver: CallbackReceiver) -> None:
    client = start(webhook_secrets={})
    client.submitted("hiapi", callback=receiver.url())
    (callback,) = receiver.wait_for(1)

    assert not [name for name in callback.headers if name.startswith("X-HiAPI")]


# The SDK


def test_serves_the_sdk_from_create_to_image(client: SandboxClient, sdk: HiAPI) -> None:
    statuses: list[str] = []
    created = sdk.tasks.create(
        model="Nano-Banana-2", input={"prompt": "A red cube", "resolution": "1K"}, route="default"
    )
    task = sdk.tasks.wait(
        created.task_id, poll_interval=0.01, on_update=lambda task: statuses.append(task.status)
    )

    assert not created.idempotent_replay
    assert task.succeeded
    assert statuses[-1] == "success"
    assert task.completed_at is not None
    assert task.output[0].expire_at is not None
    assert client.fetch(task.output[0].url).content.startswith(b"\x89PNG")
    assert [item.task_id for item in sdk.tasks.list().items] == [created.task_id]


def test_the_sdk_raises_the_right_errors(client: SandboxClient, sdk: HiAPI) -> None:
    with pytest.raises(InvalidRequestError):
        sdk.tasks.create(model="Nano-Banana-2", input={"prompt": ""})
    with pytest.raises(ModelUnavailableError):
        sdk.tasks.create(model="Nano-Banana-9", input={"prompt": "x"})
    with pytest.raises(NotFoundError):
        sdk.tasks.retrieve("tk-hiapi-unknown")
    with pytest.raises(AuthenticationError):
        HiAPI(api_key="wrong", base_url=f"{client.url}/hiapi").tasks.retrieve("x")
    created = sdk.tasks.create(model="Nano-Banana-2", input={"prompt": "x [sandbox: fail]"})
    with pytest.raises(TaskFailed) as failed:
        sdk.tasks.wait(created.task_id, poll_interval=0.01)
    assert failed.value.code == "TASK_FAILED"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("content_policy", "TASK_FAILED"),
        ("generation_failed", "TASK_FAILED"),
        ("timeout", "TASK_TIMEOUT"),
        ("unavailable", "MODEL_UNAVAILABLE"),
    ],
)
def test_a_failure_has_its_own_code(client: SandboxClient, reason: str, code: str) -> None:
    view = client.run("hiapi", f"x [sandbox: fail={reason}]")

    assert view["error"]["code"] == code
