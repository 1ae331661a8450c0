"""What every provider does in its own envelope: keys, unknown tasks and unknown routes."""

import json
from typing import Any

import pytest

from tests.sandbox.kit import KEY, PAYLOADS, QUERY, SUBMIT, SandboxClient

EVERY_PROVIDER = list(SUBMIT)


def _hiapi(status: int, message: str) -> dict[str, Any]:
    return {"code": status, "message": message, "data": None}


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", KEY])
def test_refuses_a_wrong_key(client: SandboxClient, header: str | None) -> None:
    answer = client.get("/hiapi/v1/tasks/tk-hiapi-1", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json() == _hiapi(401, "invalid api key")


UNAUTHORIZED: dict[str, dict[str, Any]] = {
    "hiapi": _hiapi(401, "invalid api key"),
    "evolink": json.loads((PAYLOADS / "evolink" / "errors.json").read_text())["401"],
    "uniall": {
        **{"code": "unauthorized", "message": "The API key is missing or wrong."},
        "data": None,
    },
    "aigptimage": {
        **{"code": 401, "msg": "Authentication failed or API key is invalid"},
        "data": None,
    },
}


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_every_route_needs_the_key(client: SandboxClient, provider: str) -> None:
    for method, path in (("GET", f"{QUERY[provider]}x"), ("POST", SUBMIT[provider][0])):
        answer = client.request(method, f"/{provider}{path}", headers={"Authorization": None})

        assert answer.status_code == 401
        assert answer.json() == UNAUTHORIZED[provider]


@pytest.mark.parametrize(
    ("provider", "code", "message"),
    [
        ("hiapi", 404, "task not found"),
        ("uniall", "task_not_found", "There is no such task."),
        ("aigptimage", 404, "Task not found"),
    ],
)
def test_does_not_know_the_task_of_another_provider(
    client: SandboxClient, provider: str, code: object, message: str
) -> None:
    for task in ("unknown", client.submitted("evolink")):
        answer = client.get(f"/{provider}{QUERY[provider]}{task}")

        assert answer.status_code == 404
        assert list(answer.json().values()) == [code, message, None]


@pytest.mark.parametrize(
    ("task", "status", "code"),
    [("tk-hiapi-1", 400, "invalid_task_id"), ("task-unified-1-a", 404, 404)],
)
def test_evolink_refuses_the_id_of_another_provider(
    client: SandboxClient, task: str, status: int, code: object
) -> None:
    answer = client.get(f"/evolink/v1/tasks/{task}")

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/hiapi/nope", 404, 404),
        ("PUT", "/hiapi/v1/tasks", 405, 405),
        ("GET", "/evolink/nope", 404, 404),
        ("PUT", "/evolink/v1/images/generations", 405, 405),
        ("GET", "/uniall/nope", 404, "not_found"),
        ("PUT", "/uniall/v1/images/tasks", 405, "method_not_allowed"),
        ("GET", "/aigptimage/nope", 404, 404),
        ("PUT", "/aigptimage/api/v1/jobs/createTask", 405, 405),
    ],
)
def test_refuses_unknown_routes_in_its_own_envelope(
    client: SandboxClient, method: str, path: str, status: int, code: object
) -> None:
    answer = client.request(method, path)
    body = answer.json()

    assert answer.status_code == status
    assert (body["error"] if path.startswith("/evolink") else body)["code"] == code


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_refuses_a_body_that_is_not_an_object(
    client: SandboxClient, provider: str, body: bytes
) -> None:
    answer = client.post(f"/{provider}{SUBMIT[provider][0]}", data=body)

    assert answer.status_code == 400
    assert "must be a JSON object" in answer.text
    assert client.tasks() == []
