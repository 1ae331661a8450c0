"""Refused submissions: their status, their words, and how long the account is refused."""

import json
import time
from email.utils import parsedate_to_datetime
from http.client import RemoteDisconnected

import pytest

from tests.sandbox.kit import EVERY_PROVIDER, KEY, MovableClock, SandboxClient, submission


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_refusal_keeps_its_words_with_another_http_status(
    client: SandboxClient, provider: str
) -> None:
    for fault, http_status in (("402", 403), ("402", 200), ("400", 200)):
        usual = client.submit(provider, f"{http_status} [sandbox: {fault}]").json()
        answer = client.submit(provider, f"x [sandbox: {fault}={http_status}]")
        assert (answer.status_code, answer.json()) == (http_status, usual)

    assert client.charged(provider) == 0


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_submission_is_refused_in_the_words_of_the_provider(
    client: SandboxClient, provider: str
) -> None:
    for status in (400, 401, 403):
        answer = client.submit(provider, f"x [sandbox: {status}]")
        assert answer.status_code == status
        assert str(status) in answer.text or answer.json()["code"]

    assert client.charged(provider) == 0


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_504_creates_the_task_in_the_words_of_the_provider(
    client: SandboxClient, provider: str
) -> None:
    answer = client.submit(provider, "x [sandbox: 504]")

    assert answer.status_code == 504
    assert "upstream request timeout" in answer.text
    assert client.charged(provider) == 1


@pytest.mark.parametrize(
    ("wait", "header"),
    [
        ("0", "0"),
        ("negative", "-1"),
        ("fraction", "0.05"),
        ("text", "soon"),
        ("missing", None),
    ],
)
def test_retry_after_has_each_form(client: SandboxClient, wait: str, header: str | None) -> None:
    for status in (429, 503):
        answer = client.submit("evolink", f"x [sandbox: {status}={wait}]")
        assert (answer.status_code, answer.headers.get("Retry-After")) == (status, header)


@pytest.mark.parametrize(("wait", "is_past"), [("past", True), ("date", False)])
def test_retry_after_can_be_a_date(client: SandboxClient, wait: str, is_past: bool) -> None:
    before = time.time()
    answer = client.submit("hiapi", f"x [sandbox: 429={wait}]")
    date = parsedate_to_datetime(answer.headers["Retry-After"]).timestamp()

    assert (date < before) is is_past


def test_a_header_comes_byte_by_byte(client: SandboxClient) -> None:
    answer = client.submit("uniall", "x [sandbox: trickle=300ms]")

    assert answer.elapsed.total_seconds() >= 0.2
    assert answer.json()["task_id"] == client.tasks()[0]["id"]


# stale_connection


def test_a_kept_alive_connection_closes_without_an_answer(client: SandboxClient) -> None:
    path, body = submission("uniall", "x [sandbox: stale_connection]")
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = client.connect()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.request("POST", path, json.dumps(body), headers)
    with pytest.raises(RemoteDisconnected):
        connection.getresponse()
    charged = client.charged("uniall")
    connection.close()

    assert charged == 0
    assert client.submit("uniall", body["prompt"]).status_code == 200


def test_a_new_connection_is_never_stale(client: SandboxClient) -> None:
    client.session.close()
    assert client.submit("uniall", "x [sandbox: stale_connection]").status_code == 200


# Account faults


@pytest.mark.parametrize("status", [401, 403])
def test_an_account_is_refused_until_it_is_accepted_again(
    client: SandboxClient, status: int
) -> None:
    task = client.submitted("hiapi")
    answer = client.put("/control/accounts/hiapi", json={"status": status})
    refused = [client.submit("hiapi"), client.get(f"/hiapi/v1/tasks/{task}")]
    shown = client.get("/control/accounts").json()
    page = client.get("/").text
    removed = client.delete("/control/accounts/hiapi").status_code

    assert answer.json() == {"status": status, "ends_at": None}
    assert [one.status_code for one in refused] == [status, status]
    assert shown == {"hiapi": {"status": status, "ends_at": None}}
    assert f"refuses the account with {status}" in page
    assert removed == 204
    assert client.submit("hiapi").status_code == 200
    assert client.charged("hiapi") == 2


def test_an_account_without_credits_still_answers_queries(
    client: SandboxClient, clock: MovableClock
) -> None:
    task = client.submitted("hiapi")
    client.put("/control/accounts/hiapi", json={"status": 402, "seconds": 60})
    answers = [client.submit("hiapi"), client.get(f"/hiapi/v1/tasks/{task}")]
    other = client.submit("evolink")
    clock.ahead = 61.0

    assert [answer.status_code for answer in answers] == [402, 200]
    assert other.status_code == 200
    assert client.submit("hiapi").status_code == 200


@pytest.mark.parametrize(
    ("path", "document", "field"),
    [
        ("hiapi", {"status": 404}, "status"),
        ("hiapi", {}, "status"),
        ("hiapi", [], "fault"),
        ("hiapi", {"status": 402, "seconds": 0}, "seconds"),
        ("hiapi", {"status": 402, "seconds": "x"}, "seconds"),
        ("hiapi", {"status": 402, "time": 1}, "time"),
        ("nobody", {"status": 402}, "provider"),
    ],
)
def test_a_wrong_account_fault_is_refused(
    client: SandboxClient, path: str, document: object, field: str
) -> None:
    answer = client.put(f"/control/accounts/{path}", json=document)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
    assert client.get("/control/accounts").json() == {}
