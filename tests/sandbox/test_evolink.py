"""EvoLink: what its page says, and its published query where the page refers to it."""

import json
import re
from typing import Any

import pytest

from tests.sandbox.conftest import Start
from tests.sandbox.kit import KEY, PAYLOADS, Client, Clock, Receiver, links, wait_until

DOCUMENTED_ERRORS = json.loads((PAYLOADS / "evolink" / "errors.json").read_text())


def test_takes_the_documented_request_and_answers_in_the_documented_shape(client: Client) -> None:
    documented = json.loads((PAYLOADS / "evolink" / "accepted.json").read_text())
    body = (PAYLOADS / "evolink" / "text_to_image.json").read_bytes()

    answer = client.post("/evolink/v1/images/generations", data=body)

    assert answer.status_code == 200
    seen = answer.json()
    assert re.fullmatch(rf"task-unified-{seen['created']}-[0-9a-z]{{8}}", seen["id"])
    documented |= {"created": seen["created"], "id": seen["id"]}
    documented["task_info"]["estimated_time"] = 1
    assert seen == documented


@pytest.mark.parametrize(("seconds", "estimate"), [(0.2, 1), (44.5, 45), (45.0, 45)])
def test_estimates_the_time_its_tasks_take(start: Start, seconds: float, estimate: int) -> None:
    answer = start(task_seconds=seconds).submit("evolink")

    assert answer.json()["task_info"]["estimated_time"] == estimate


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Token {KEY}"])
@pytest.mark.parametrize("path", ["/v1/tasks/task-unified-1-a", "/v1/images/generations"])
def test_refuses_a_wrong_key(client: Client, header: str | None, path: str) -> None:
    method = "GET" if "tasks" in path else "POST"
    answer = client.session.request(
        method, f"{client.url}/evolink{path}", headers={"Authorization": header}, timeout=5
    )

    assert answer.status_code == 401
    assert answer.json() == DOCUMENTED_ERRORS["401"]


def test_refuses_an_unknown_model_in_the_documented_words(client: Client) -> None:
    answer = client.post("/evolink/v1/images/generations", json=_body(model="nano-banana-9"))

    assert answer.status_code == 404
    assert answer.json() == DOCUMENTED_ERRORS["404"]


@pytest.mark.parametrize("fault", ["429=60", "500", "503"])
def test_refuses_in_the_documented_words(client: Client, fault: str) -> None:
    answer = client.submit("evolink", f"x [sandbox: {fault}]")

    assert answer.json() == DOCUMENTED_ERRORS[fault[:3]]
    assert str(answer.status_code) == fault[:3]


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "nano-banana-2-lite", "prompt": "A red cube", **changes}


SIZES = ["auto", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]

_IMAGE = "https://example.com/image1.png"


@pytest.mark.parametrize(
    ("body", "param", "complaint"),
    [
        ({"prompt": "x"}, "model", "Missing"),
        (_body(model=7), "model", "Not a valid string"),
        ({"model": "nano-banana-2-lite"}, "prompt", "Missing"),
        (_body(prompt=""), "prompt", "between 1 and 2000"),
        (_body(prompt="x" * 2001), "prompt", "2000"),
        (_body(size="1024x1024"), "size", "Must be one of auto, 1:1"),
        (_body(size="1:8"), "size", "Must be one of"),
        (_body(quality="8K"), "quality", "Must be one of 1K, 2K, 4K."),
        (_body(image_urls=_IMAGE), "image_urls", "Not a valid list"),
        (_body(image_urls=[_IMAGE] * 11), "image_urls", "10"),
        (_body(image_urls=["https://example.com/a.gif"]), "image_urls.0", ".webp"),
        (_body(image_urls=[_IMAGE, "file:///etc/passwd.png"]), "image_urls.1", "URL"),
        (_body(callback_url=7), "callback_url", "Not a valid string"),
        (_body(callback_url="/relative"), "callback_url", "absolute"),
        (_body(callback_url="https://example.com/" + "x" * 2048), "callback_url", "2048"),
        (_body(n=2), "n", "Unknown field"),
        (_body(callback={"url": "https://example.com"}), "callback", "Unknown field"),
    ],
)
def test_refuses_what_the_page_does_not_allow(
    client: Client, body: object, param: str, complaint: str
) -> None:
    answer = client.post("/evolink/v1/images/generations", json=body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert complaint in error["message"]
    assert client.tasks() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_refuses_a_body_that_is_no_object(client: Client, body: bytes) -> None:
    answer = client.post("/evolink/v1/images/generations", data=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        _body(prompt="x" * 2000),
        _body(model="gemini-3-pro-image-preview"),
        _body(
            image_urls=[f"https://example.com/a.{kind}" for kind in ("jpeg", "JPG", "png", "webp")]
        ),
        _body(image_urls=["https://example.com/image/42?size=full"]),
        _body(image_urls=[_IMAGE] * 10),
        *(
            _body(size=size)
            for size in [
                "auto",
                "1:1",
                "2:3",
                "3:2",
                "3:4",
                "4:3",
                "4:5",
                "5:4",
                "9:16",
                "16:9",
                "21:9",
            ]
        ),
    ],
)
def test_takes_what_the_page_allows(client: Client, body: object) -> None:
    assert client.post("/evolink/v1/images/generations", json=body).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/cb",
        "https://localhost/cb",
        "https://127.0.0.1/cb",
        "https://10.1.2.3/cb",
        "https://172.16.0.1/cb",
        "https://192.168.1.1/cb",
        "https://169.254.169.254/cb",
        "https://[::1]/cb",
        "https://[::ffff:127.0.0.1]/cb",
    ],
)
def test_takes_only_https_callbacks_to_the_outside(start: Start, url: str) -> None:
    answer = start(allow_http=False).submit("evolink", callback=url)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "callback_url"


def test_takes_an_https_callback_to_the_outside(start: Start) -> None:
    client = start(allow_http=False, task_seconds=60)

    assert client.submit("evolink", callback="https://example.com/cb").status_code == 200


def test_allow_http_keeps_the_limit_on_length(client: Client, receiver: Receiver) -> None:
    fits = receiver.url("/")
    fits += "x" * (2048 - len(fits))

    assert client.submit("evolink", callback=fits).status_code == 200
    assert client.submit("evolink", callback=fits + "x").status_code == 400


def test_passes_through_its_states_with_rising_progress(client: Client, clock: Clock) -> None:
    task = client.submitted("evolink", "x [sandbox: slow=100]")
    seen = []
    for ahead in (0, 50, 150):
        clock.ahead = ahead
        seen.append(client.query("evolink", task))

    assert [state["status"] for state in seen] == ["pending", "processing", "processing"]
    assert seen[0]["progress"] == 0
    assert 50 <= seen[1]["progress"] <= 55
    assert seen[2]["progress"] == 99
    assert seen[0]["task_info"] == {"can_cancel": True}
    assert "results" not in seen[0]


def test_shows_a_completed_task_with_its_results(client: Client) -> None:
    task = client.submitted("evolink")
    seen = client.finished("evolink", task)

    assert set(seen) == {
        *("created", "id", "model", "object", "progress", "results", "status", "task_info", "type")
    }
    assert (seen["id"], seen["status"], seen["progress"]) == (task, "completed", 100)
    assert seen["task_info"] == {"can_cancel": False}
    assert len(links(seen)) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [("fail", "content_policy_violation"), ("fail=service_error", "service_error")],
)
def test_shows_a_failed_task_with_its_error(client: Client, fault: str, code: str) -> None:
    seen = client.finished("evolink", client.submitted("evolink", f"x [sandbox: {fault}]"))

    assert (seen["status"], seen["progress"]) == ("failed", 0)
    assert seen["error"]["code"] == code
    assert seen["error"]["message"]
    assert "results" not in seen


def test_calls_back_with_the_answer_of_the_query_unsigned(
    client: Client, receiver: Receiver
) -> None:
    task = client.submitted("evolink", callback=receiver.url())
    (received,) = receiver.wait_for(1)

    assert json.loads(received.body) == client.query("evolink", task)
    assert not [name for name in received.headers if "signature" in name.lower()]


def test_calls_back_when_cancelled(client: Client, receiver: Receiver) -> None:
    task = client.submitted("evolink", "x [sandbox: cancelled]", callback=receiver.url())
    (received,) = receiver.wait_for(1)

    assert json.loads(received.body)["status"] == "cancelled"
    assert client.query("evolink", task)["status"] == "cancelled"
    wait_until(lambda: client.task(task)["charged"]["refunded"])


@pytest.mark.parametrize(
    ("task", "status", "code"), [("nope", 400, "invalid_task_id"), ("task-unified-1-a", 404, 404)]
)
def test_knows_no_other_tasks(client: Client, task: str, status: int, code: object) -> None:
    answer = client.get(f"/evolink/v1/tasks/{task}")

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_refuses_unknown_routes_in_its_own_envelope(client: Client) -> None:
    assert client.get("/evolink/nope").json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(("quality", "credits"), [("1K", 1.6), ("2K", 1.6), ("4K", 3.2)])
def test_reserves_more_for_4k(client: Client, quality: str, credits: float) -> None:
    answer = client.submit("evolink", quality=quality)

    assert answer.json()["usage"]["credits_reserved"] == credits
    assert client.tasks()[0]["charged"]["amount"] == credits
