"""EvoLink, compared with its page and with its published query."""

import json
import re
from typing import Any

import pytest

from sandbox.evolink import SIZES
from tests.sandbox.conftest import Start
from tests.sandbox.kit import PAYLOADS, CallbackReceiver, MovableClock, SandboxClient, links

SUBMIT = "/evolink/v1/images/generations"
DOCUMENTED_ERRORS = json.loads((PAYLOADS / "evolink" / "errors.json").read_text())


def test_answers_the_documented_request_as_documented(client: SandboxClient) -> None:
    documented = json.loads((PAYLOADS / "evolink" / "accepted.json").read_text())
    body = (PAYLOADS / "evolink" / "text_to_image.json").read_bytes()

    answer = client.post(SUBMIT, data=body)

    assert answer.status_code == 200
    task = answer.json()
    assert re.fullmatch(rf"task-unified-{task['created']}-[0-9a-z]{{8}}", task["id"])
    documented |= {"created": task["created"], "id": task["id"]}
    documented["task_info"]["estimated_time"] = 1
    assert task == documented


@pytest.mark.parametrize(("seconds", "estimate"), [(0.2, 1), (44.5, 45), (45.0, 45)])
def test_estimates_the_time_of_its_tasks(start: Start, seconds: float, estimate: int) -> None:
    answer = start(task_seconds=seconds).submit("evolink")

    assert answer.json()["task_info"]["estimated_time"] == estimate


def test_refuses_an_unknown_model_in_the_documented_words(client: SandboxClient) -> None:
    answer = client.post(SUBMIT, json=_body(model="nano-banana-9"))

    assert answer.status_code == 404
    assert answer.json() == DOCUMENTED_ERRORS["404"]


@pytest.mark.parametrize("fault", ["429=60", "500", "503"])
def test_refuses_in_the_documented_words(client: SandboxClient, fault: str) -> None:
    answer = client.submit("evolink", f"x [sandbox: {fault}]")

    assert str(answer.status_code) == fault[:3]
    assert answer.json() == DOCUMENTED_ERRORS[fault[:3]]


def test_402_has_its_own_type(client: SandboxClient) -> None:
    answer = client.submit("evolink", "x [sandbox: 402]")

    assert answer.status_code == 402
    assert answer.json()["error"]["type"] == "insufficient_quota_error"


def _body(**changes: Any) -> dict[str, Any]:
    return {"model": "nano-banana-2-lite", "prompt": "A red cube", **changes}


_IMAGE = "https://example.com/image1.png"


@pytest.mark.parametrize(
    ("body", "param", "complaint"),
    [
        ({"prompt": "x"}, "model", "Missing"),
        (_body(model=7), "model", "Not a valid string"),
        ({"model": "nano-banana-2-lite"}, "prompt", "Missing"),
        (_body(prompt=""), "prompt", "between 1 and 2000"),
        (_body(prompt="x" * 2001), "prompt", "2000"),
        (_body(size="1:8"), "size", "Must be one of auto, 1:1"),
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
    client: SandboxClient, body: object, param: str, complaint: str
) -> None:
    answer = client.post(SUBMIT, json=body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert complaint in error["message"]
    assert client.tasks() == []


@pytest.mark.parametrize(
    "body",
    [
        _body(prompt="x" * 2000),
        _body(model="gemini-3-pro-image-preview"),
        _body(
            image_urls=[f"https://example.com/a.{kind}" for kind in ("jpeg", "JPG", "png", "webp")]
        ),
        _body(image_urls=["https://my_host.example.com/image/42?size=full"]),
        _body(image_urls=[_IMAGE] * 10),
    ],
)
def test_accepts_what_the_page_allows(client: SandboxClient, body: object) -> None:
    assert client.post(SUBMIT, json=body).status_code == 200


def test_has_the_documented_sizes() -> None:
    documented = ["auto", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]

    assert list(SIZES) == documented


def test_accepts_only_https_callback_urls_to_public_addresses(start: Start) -> None:
    client = start(allow_http=False, task_seconds=3600)
    private = ["localhost", "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1"]
    private += ["169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "a.internal"]

    for url in ("http://example.com/cb", *(f"https://{host}/cb" for host in private)):
        answer = client.submit("evolink", callback=url)
        assert answer.status_code == 400, url
        assert answer.json()["error"]["param"] == "callback_url"
    assert client.submit("evolink", callback="https://example.com/cb").status_code == 200


def test_allow_http_keeps_the_limit_on_length(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    longest = receiver.url("/").ljust(2048, "x")

    assert client.submit("evolink", callback=longest).status_code == 200
    assert client.submit("evolink", callback=longest + "x").status_code == 400


@pytest.mark.parametrize(("quality", "credits"), [("1K", 1.6), ("2K", 1.6), ("4K", 3.2)])
def test_reserves_more_for_4k(client: SandboxClient, quality: str, credits: float) -> None:
    answer = client.submit("evolink", quality=quality)

    assert answer.json()["usage"]["credits_reserved"] == credits
    assert client.tasks()[0]["charged"]["amount"] == credits


# The life of a task


def test_has_its_states_with_rising_progress(client: SandboxClient, clock: MovableClock) -> None:
    task = client.submitted("evolink", "x [sandbox: slow=10000]")
    views = []
    for clock.ahead in (0, 5000, 15_000):
        views.append(client.query("evolink", task))

    assert [view["status"] for view in views] == ["pending", "processing", "processing"]
    assert 0 <= views[0]["progress"] < 20
    assert 50 <= views[1]["progress"] < 70
    assert views[2]["progress"] == 99
    assert views[0]["task_info"] == {"can_cancel": True}
    assert "results" not in views[0]


def test_shows_a_completed_task_with_its_results(client: SandboxClient) -> None:
    task = client.submitted("evolink")
    view = client.finished("evolink", task)

    assert set(view) == {
        *("created", "id", "model", "object", "progress", "results", "status", "task_info", "type")
    }
    assert (view["id"], view["status"], view["progress"]) == (task, "completed", 100)
    assert view["task_info"] == {"can_cancel": False}
    assert len(links(view)) == 1


def test_shows_a_failed_task_with_its_error(client: SandboxClient) -> None:
    view = client.run("evolink", "x [sandbox: fail=service_error]")

    assert (view["status"], view["progress"]) == ("failed", 0)
    assert view["error"]["code"] == "service_error"
    assert view["error"]["message"]
    assert "results" not in view


def test_calls_back_with_the_answer_of_the_query_unsigned(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    task = client.submitted("evolink", callback=receiver.url())
    (callback,) = receiver.wait_for(1)

    assert json.loads(callback.body) == client.query("evolink", task)
    assert not [name for name in callback.headers if "signature" in name.lower()]


def test_calls_back_when_cancelled(client: SandboxClient, receiver: CallbackReceiver) -> None:
    task = client.submitted("evolink", "x [sandbox: cancelled]", callback=receiver.url())
    (callback,) = receiver.wait_for(1)

    assert json.loads(callback.body)["status"] == "cancelled"
    assert client.query("evolink", task)["status"] == "cancelled"
    assert client.task(task)["charged"]["refunded"]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("content_policy", "content_policy_violation"),
        ("generation_failed", "generation_failed_no_content"),
        ("timeout", "generation_timeout"),
        ("unavailable", "service_unavailable"),
    ],
)
def test_a_failure_has_its_own_code(client: SandboxClient, reason: str, code: str) -> None:
    view = client.run("evolink", f"x [sandbox: fail={reason}]")

    assert view["error"]["code"] == code
