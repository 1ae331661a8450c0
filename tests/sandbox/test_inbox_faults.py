"""The faults of an inbox."""

from typing import Any

import pytest
import requests

from sandbox.inbox_faults import FIELDS, InboxFault, read_inbox_fault
from sandbox.rule_format import RuleError
from tests.sandbox.kit import SandboxClient, wait_until
from tests.sandbox.notices import BODY, send, stored


def test_fails_for_a_number_of_notifications(client: SandboxClient) -> None:
    answer = client.put("/control/inbox/a", json={"answer": 503, "retry_after": 5, "times": 2})
    answers = [send(client, "a") for _ in range(3)]

    assert answer.status_code == 200
    assert answer.json() == {
        **{"name": "a", "answer": 503, "retry_after": 5, "times": 2, "remaining": 2},
        **{"slow_seconds": 0.0, "drop": False, "redirect": None},
    }
    assert [one.status_code for one in answers] == [503, 503, 204]
    assert [one.headers.get("Retry-After") for one in answers] == ["5", "5", None]
    assert [one["status"] for one in stored(client)] == [204, 503, 503]
    assert {one["deliveries"] for one in stored(client)} == {3}


def test_fails_until_the_fault_is_deleted(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"answer": 410})
    assert [send(client, "a").status_code for _ in range(3)] == [410] * 3
    assert send(client, "b").status_code == 204

    assert client.delete("/control/inbox/a").status_code == 204
    assert send(client, "a").status_code == 204
    assert client.delete("/control/inbox/a").status_code == 204


def test_a_new_fault_replaces_the_old_one(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"answer": 500, "retry_after": 9, "times": 9})
    client.put("/control/inbox/a", json={"answer": 404, "times": 1})
    answers = [send(client, "a") for _ in range(2)]

    assert [one.status_code for one in answers] == [404, 204]
    assert "Retry-After" not in answers[0].headers


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        ({"retry_after": 0}, 503, ("Retry-After", "0")),
        ({"redirect": "http://127.0.0.1:1/x"}, 302, ("Location", "http://127.0.0.1:1/x")),
        ({"redirect": "https://a.b/", "answer": 308}, 308, ("Location", "https://a.b/")),
        ({"answer": 200}, 200, ("Content-Length", "0")),
    ],
    ids=["retry-after", "redirect", "redirect-308", "ok"],
)
def test_answers_with_the_fields_of_the_fault(
    client: SandboxClient, fault: dict[str, Any], status: int, header: tuple[str, str]
) -> None:
    client.put("/control/inbox/a", json=fault)
    answer = send(client, "a")

    assert (answer.status_code, answer.headers[header[0]]) == (status, header[1])


def test_drop_stores_the_notification_and_does_not_answer(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"drop": True, "times": 1})
    with pytest.raises(requests.ConnectionError):
        send(client, "a")

    assert [one["status"] for one in stored(client)] == [None]
    assert send(client, "a").status_code == 204


def test_slow_stores_the_notification_before_the_answer(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"slow_seconds": 3600})
    connection = client.connect()
    connection.request("POST", "/inbox/a", BODY)
    wait_until(lambda: stored(client))

    assert [one["status"] for one in stored(client)] == [None]
    connection.close()


def test_slow_answers_late(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"slow_seconds": 0.2, "answer": 500})
    answer = send(client, "a")

    assert answer.elapsed.total_seconds() >= 0.2
    assert answer.status_code == 500


_ANSWER = "a whole number from 200 to 599, or null"
_SECONDS = "a number of seconds from 0 to 86400, or null"
_URL = "an http or https URL of at most 2048 characters, or null"
_NULL = "null with drop, which sends no answer"


def test_refuses_a_wrong_fault() -> None:
    for document, field, allowed in [
        (None, "fault", "an object with one or more of " + ", ".join(FIELDS)),
        ({}, "fault", "an object with one or more of " + ", ".join(FIELDS)),
        ({"anser": 500}, "anser", ", ".join(FIELDS)),
        ({"answer": 199}, "answer", _ANSWER),
        ({"answer": 600}, "answer", _ANSWER),
        ({"answer": "503"}, "answer", _ANSWER),
        ({"answer": True}, "answer", _ANSWER),
        ({"retry_after": -1}, "retry_after", "a whole number from 0 to 86400, or null"),
        ({"times": 0}, "times", "a whole number from 1 to 1000000, or null"),
        ({"slow_seconds": -1}, "slow_seconds", _SECONDS),
        ({"slow_seconds": 86401}, "slow_seconds", _SECONDS),
        ({"slow_seconds": "2s"}, "slow_seconds", _SECONDS),
        ({"slow_seconds": float("nan")}, "slow_seconds", _SECONDS),
        ({"drop": 1}, "drop", "true, false or null"),
        ({"drop": True, "answer": 500}, "answer", _NULL),
        ({"drop": True, "redirect": "http://a/"}, "redirect", _NULL),
        ({"drop": True, "retry_after": 0}, "retry_after", _NULL),
        ({"redirect": "/x"}, "redirect", _URL),
        ({"redirect": "http://a/\r\nX:y"}, "redirect", _URL),
        ({"redirect": "http://a/ b"}, "redirect", _URL),
        ({"redirect": "ftp://a/"}, "redirect", _URL),
        ({"redirect": "http://[::1"}, "redirect", _URL),
        ({"redirect": "http://a/" + "x" * 2048}, "redirect", _URL),
        (
            {"redirect": "http://a/", "answer": 500},
            *("answer", "one of 301, 302, 303, 307, 308 with redirect, or null for 302"),
        ),
    ]:
        with pytest.raises(RuleError) as error:
            read_inbox_fault(document)

        assert (error.value.field, error.value.allowed) == (field, allowed)


def test_a_wrong_fault_changes_nothing(client: SandboxClient) -> None:
    answer = client.put("/control/inbox/a", json={"answer": 600})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "answer")
    assert send(client, "a").status_code == 204


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (InboxFault(drop=True), "no answer"),
        (InboxFault(slow_seconds=2.5), "answers 204, after 2.5 s"),
        (InboxFault(302, redirect="http://a/"), "answers 302, to http://a/"),
    ],
    ids=["drop", "slow", "redirect"],
)
def test_a_fault_describes_itself(fault: InboxFault, text: str) -> None:
    assert str(fault) == text
