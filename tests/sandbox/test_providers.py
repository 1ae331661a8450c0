"""What every provider does in its own envelope: keys, unknown tasks and unknown routes."""

import pytest

from tests.sandbox.kit import EMULATED, EVERY_PROVIDER, KEY, SandboxClient


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", KEY])
def test_refuses_a_wrong_key(client: SandboxClient, header: str | None) -> None:
    answer = client.get("/hiapi/v1/tasks/tk-hiapi-1", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json()["message"] == "invalid api key"


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_every_route_needs_the_key(client: SandboxClient, provider: str) -> None:
    emulated = EMULATED[provider]
    for method, path in (("GET", f"{emulated.query_path}x"), ("POST", emulated.submit_path)):
        answer = client.request(method, f"/{provider}{path}", headers={"Authorization": None})

        assert answer.status_code == 401
        assert client.tasks() == []


@pytest.mark.parametrize("provider", [name for name in EVERY_PROVIDER if name != "evolink"])
def test_does_not_know_the_task_of_another_provider(client: SandboxClient, provider: str) -> None:
    for task in ("unknown", client.submitted("evolink")):
        answer = client.get(f"/{provider}{EMULATED[provider].query_path}{task}")

        assert answer.status_code == 404
        assert answer.json().get("data") is None


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


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_refuses_unknown_routes_in_its_own_envelope(client: SandboxClient, provider: str) -> None:
    unknown = client.get(f"/{provider}/nope")
    other_method = client.put(f"/{provider}{EMULATED[provider].submit_path}")

    for answer, status, word in (
        (unknown, 404, "not_found"),
        (other_method, 405, "method_not_allowed"),
    ):
        body = answer.json()
        found = body.get("error", body)
        assert answer.status_code == status
        assert found.get("code", found.get("status")) in (status, word)


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_refuses_a_body_that_is_not_an_object(
    client: SandboxClient, provider: str, body: bytes
) -> None:
    answer = client.post(f"/{provider}{EMULATED[provider].submit_path}", data=body)

    assert answer.status_code == 400
    assert "must be a JSON object" in answer.text
    assert client.tasks() == []
