"""HiAPI: what its page, its published async API and its SDK say."""

import json
import re
import time
from typing import Any

import pytest
from hiapi import HiAPI, InvalidRequestError, ModelUnavailableError, NotFoundError
from hiapi.errors import AuthenticationError, TaskFailed, WebhookVerificationError
from hiapi.webhooks import verify_webhook

from tests.sandbox.conftest import Start
from tests.sandbox.kit import KEY, PAYLOADS, SECRET, Client, Clock, Receiver, wait_until

RATIOS = ["auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1"]
RATIOS += ["9:16", "16:9", "21:9"]


@pytest.fixture
def sdk(client: Client) -> HiAPI:
    return HiAPI(api_key=KEY, base_url=f"{client.url}/hiapi", max_retries=0)


@pytest.mark.parametrize("name", ["text_to_image", "reference"])
def test_takes_the_documented_request_byte_for_byte(client: Client, name: str) -> None:
    body = (PAYLOADS / "hiapi" / f"{name}.json").read_bytes()

    answer = client.post("/hiapi/v1/tasks", data=body)

    assert answer.status_code == 200
    assert set(answer.json()) == {"code", "message", "data"}
    assert answer.json()["code"] == 200
    assert re.fullmatch(r"tk-hiapi-[0-9A-Z]{26}", answer.json()["data"]["taskId"])
    assert client.tasks()[0]["prompt"] == json.loads(body)["input"]["prompt"]


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", KEY])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/tasks"), ("GET", "/v1/tasks"), ("GET", "/v1/tasks/tk-hiapi-1")],
)
def test_refuses_a_wrong_key(client: Client, header: str | None, method: str, path: str) -> None:
    answer = client.session.request(
        method, f"{client.url}/hiapi{path}", headers={"Authorization": header}, timeout=5
    )

    assert answer.status_code == 401
    assert answer.json() == {"code": 401, "message": "invalid api key", "data": None}


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "Nano-Banana-2", "input": {"prompt": "A red cube"}, **changes}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"input": {"prompt": "x"}}, "model: Missing"),
        (_body(model=7), "model: Not a valid string. Got: 7."),
        ({"model": "Nano-Banana-2"}, "input: Missing"),
        (_body(input=[]), "input: Invalid"),
        (_body(input={}), "input.prompt: Missing data for required field. Got: nothing."),
        (_body(input={"prompt": ""}), "input.prompt: Shorter than minimum length 1."),
        (_body(input={"prompt": 7}), "input.prompt: Not a valid string."),
        (
            _body(input={"prompt": "x", "image_input": "https://example.com/a.png"}),
            "input.image_input",
        ),
        (
            _body(input={"prompt": "x", "image_input": ["nowhere"]}),
            "input.image_input.0: Not a valid URL",
        ),
        (
            _body(input={"prompt": "x", "aspect_ratio": "7:3"}),
            "input.aspect_ratio: Must be one of auto, 1:1",
        ),
        (
            _body(input={"prompt": "x", "resolution": "8K"}),
            "input.resolution: Must be one of 1K, 2K, 4K.",
        ),
        (
            _body(input={"prompt": "x", "output_format": "webp"}),
            "input.output_format: Must be one of png, jpg.",
        ),
        (_body(input={"prompt": "x", "callback": "u"}), "input.callback: Unknown field."),
        (_body(callback={}), "callback.url: Missing"),
        (_body(callback={"url": "nowhere"}), "callback.url: Must be an absolute URL."),
        (_body(callback={"url": "http://h:port/"}), "callback.url: Must be an absolute URL."),
        (
            _body(callback={"url": "http://h/", "when": "start"}),
            "callback.when: Must be one of final.",
        ),
        (_body(route="pro"), "route: Must be one of default."),
        (_body(n=2), "n: Unknown field."),
        ([], "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_refuses_what_the_page_does_not_allow(client: Client, body: object, complaint: str) -> None:
    answer = client.post("/hiapi/v1/tasks", data=body if body == "{" else json.dumps(body))

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_REQUEST"
    assert answer.json()["data"] is None
    assert complaint in answer.json()["message"]
    assert client.tasks() == []


def test_names_the_models_it_has_when_asked_for_another(client: Client) -> None:
    answer = client.post("/hiapi/v1/tasks", json=_body(model="Nano-Banana-9"))

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "MODEL_UNAVAILABLE"
    assert "Nano-Banana-2" in answer.json()["message"]


@pytest.mark.parametrize("ratio", RATIOS)
def test_takes_every_aspect_ratio(client: Client, ratio: str) -> None:
    assert client.submit("hiapi", aspect_ratio=ratio).status_code == 200


@pytest.mark.parametrize("url", ["http://example.com/cb", "ftp://example.com/cb"])
def test_takes_only_https_callbacks(start: Start, url: str) -> None:
    client = start(allow_http=False)

    assert client.submit("hiapi", callback=url).status_code == 400
    assert client.submit("hiapi", callback="https://example.com/cb").status_code == 200


def test_passes_through_its_states_in_order(client: Client, clock: Clock) -> None:
    task = client.submitted("hiapi", "A red cube [sandbox: slow=100]")
    seen = []
    for ahead in (0, 50, 90):
        clock.ahead = ahead
        seen.append(client.query("hiapi", task))

    assert [state["status"] for state in seen] == ["queued", "handling", "archiving"]
    for state in seen:
        assert state["completed"] == 0
        assert "output" not in state
        assert "error" not in state


def test_shows_a_success_with_its_output(client: Client) -> None:
    before = int(time.time())
    task = client.submitted("hiapi", output_format="jpg")
    seen = client.finished("hiapi", task)

    assert set(seen) == {"taskId", "model", "status", "created", "completed", "output"}
    assert seen["taskId"] == task
    assert seen["status"] == "success"
    assert before <= seen["created"] <= seen["completed"] <= time.time()
    (output,) = seen["output"]
    assert output["type"] == "image"
    assert output["url"].startswith(client.url)
    assert output["url"].endswith(".jpg")
    assert abs(output["expireAt"] - seen["completed"] - 7 * 24 * 3600) <= 1


def test_shows_a_failure_with_its_error(client: Client) -> None:
    seen = client.finished("hiapi", client.submitted("hiapi", "x [sandbox: fail=TASK_TIMEOUT]"))

    assert seen["status"] == "fail"
    assert seen["error"]["code"] == "TASK_TIMEOUT"
    assert seen["error"]["message"]
    assert "output" not in seen


def test_knows_no_other_tasks(client: Client) -> None:
    evolink = client.submitted("evolink")

    for task in ("tk-hiapi-unknown", evolink):
        answer = client.get(f"/hiapi/v1/tasks/{task}")
        assert answer.status_code == 404
        assert answer.json() == {"code": 404, "message": "task not found", "data": None}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("PUT", "/v1/tasks", 405)]
)
def test_refuses_unknown_routes_in_its_own_envelope(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.session.request(method, f"{client.url}/hiapi{path}", timeout=5)

    assert answer.status_code == status
    assert answer.json()["code"] == status


def test_lists_newest_first_in_pages(client: Client) -> None:
    tasks = [client.submitted("hiapi", f"Cube {number}") for number in range(5)]
    client.submitted("evolink")
    client.submitted("hiapi", "x [sandbox: forget]")

    page = client.get("/hiapi/v1/tasks?page=2&size=2").json()["data"]

    assert (page["page"], page["size"], page["total"]) == (2, 2, 5)
    assert [task["taskId"] for task in page["tasks"]] == [tasks[2], tasks[1]]


@pytest.mark.parametrize("query", ["page=0&size=0", "page=x&size=101", "page=-1&size=-1", ""])
def test_lists_with_defaults_for_a_page_out_of_range(client: Client, query: str) -> None:
    page = client.get(f"/hiapi/v1/tasks?{query}").json()["data"]

    assert (page["page"], page["size"]) == (1, 20)


def test_calls_back_with_the_data_of_the_query(client: Client, receiver: Receiver) -> None:
    task = client.submitted("hiapi", callback=receiver.url())
    (received,) = receiver.wait_for(1)

    assert received.path == "/callbacks/hiapi/job_1.1/AbCdEf"
    assert received.headers["Content-Type"] == "application/json"
    assert json.loads(received.body) == client.query("hiapi", task)


def test_signs_callbacks_as_the_sdk_verifies_them(client: Client, receiver: Receiver) -> None:
    task = client.submitted("hiapi", "Ein grüner Würfel", callback=receiver.url())
    (received,) = receiver.wait_for(1)
    signature = received.headers["X-HiAPI-Signature"]
    timestamp = received.headers["X-HiAPI-Timestamp"]

    verified = verify_webhook(
        received.body, signature=signature, timestamp=timestamp, secret=SECRET
    )

    assert verified.task_id == task
    assert verified.succeeded
    with pytest.raises(WebhookVerificationError):
        verify_webhook(
            received.body + b" ", signature=signature, timestamp=timestamp, secret=SECRET
        )


def test_signs_nothing_without_a_secret(start: Start, receiver: Receiver) -> None:
    client = start(hiapi_webhook_secret=None)
    client.submitted("hiapi", callback=receiver.url())
    (received,) = receiver.wait_for(1)

    assert not [name for name in received.headers if name.startswith("X-HiAPI")]


def test_serves_the_sdk_from_create_to_image(client: Client, sdk: HiAPI) -> None:
    seen: list[str] = []
    created = sdk.tasks.create(
        model="Nano-Banana-2", input={"prompt": "A red cube", "resolution": "1K"}, route="default"
    )
    task = sdk.tasks.wait(
        created.task_id, poll_interval=0.01, on_update=lambda task: seen.append(task.status)
    )

    assert not created.idempotent_replay
    assert task.succeeded
    assert seen[-1] == "success"
    assert task.completed_at is not None
    assert task.output[0].expire_at is not None
    assert client.session.get(task.output[0].url, timeout=5).content.startswith(b"\x89PNG")
    assert [item.task_id for item in sdk.tasks.list().items] == [created.task_id]


def test_gives_the_sdk_errors_of_the_right_kind(client: Client, sdk: HiAPI) -> None:
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


@pytest.mark.parametrize(("resolution", "price"), [("1K", 1.0), ("2K", 1.5), ("4K", 3.0)])
def test_charges_by_resolution(client: Client, resolution: str, price: float) -> None:
    task = client.submitted("hiapi", resolution=resolution)

    assert client.task(task)["charged"] == {"amount": price, "unit": "credits", "refunded": False}


def test_refunds_a_failure(client: Client) -> None:
    task = client.submitted("hiapi", "x [sandbox: fail]")

    wait_until(lambda: client.task(task)["charged"]["refunded"])
    assert client.task(task)["charged"]["amount"] == 1.0
