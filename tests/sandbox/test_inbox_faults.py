"""What an inbox does wrong on request."""

import json
import threading
from typing import Any

import pytest
import requests

from sandbox.inbox_faults import InboxFault
from tests.sandbox.kit import Client, wait_until
from tests.sandbox.notices import BODY, headers, kept, send


def test_answers_as_asked_so_many_times(client: Client) -> None:
    answer = client.put("/control/inbox/wrong", json={"answer": 503, "retry_after": 5, "times": 2})
    answers = [send(client, "wrong") for _ in range(3)]

    assert answer.status_code == 200
    assert answer.json() == {
        **{"name": "wrong", "answer": 503, "retry_after": 5, "times": 2, "remaining": 2},
        **{"slow_seconds": 0.0, "drop": False, "redirect": None},
    }
    assert [one.status_code for one in answers] == [503, 503, 204]
    assert [one.headers.get("Retry-After") for one in answers] == ["5", "5", None]
    assert [seen["status"] for seen in kept(client)] == [204, 503, 503]
    assert {seen["deliveries"] for seen in kept(client)} == {3}


def test_is_broken_until_it_is_mended(client: Client) -> None:
    client.put("/control/inbox/always", json={"answer": 410})
    assert [send(client, "always").status_code for _ in range(3)] == [410] * 3
    assert send(client, "another").status_code == 204

    assert client.delete("/control/inbox/always").status_code == 204
    assert send(client, "always").status_code == 204
    assert client.delete("/control/inbox/always").status_code == 204


def test_the_later_fault_takes_the_place_of_the_first(client: Client) -> None:
    client.put("/control/inbox/later", json={"answer": 500, "retry_after": 9, "times": 9})
    client.put("/control/inbox/later", json={"answer": 404, "times": 1})
    answers = [send(client, "later") for _ in range(2)]

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
def test_answers_what_goes_with_it(
    client: Client, fault: dict[str, Any], status: int, header: tuple[str, str]
) -> None:
    client.put("/control/inbox/goes", json={**fault, "times": 1})
    answer = send(client, "goes")

    assert (answer.status_code, answer.headers[header[0]]) == (status, header[1])


def test_drop_records_and_does_not_answer(client: Client) -> None:
    client.put("/control/inbox/drops", json={"drop": True, "times": 1})
    with pytest.raises(requests.ConnectionError):
        send(client, "drops")

    assert [seen["status"] for seen in kept(client)] == [None]
    assert send(client, "drops").status_code == 204


def test_slow_answers_late_and_records_at_once(client: Client) -> None:
    client.put("/control/inbox/slow", json={"slow_seconds": 0.5, "answer": 500, "times": 1})
    answers: list[requests.Response] = []
    signed = headers("slow")

    def send_alone() -> None:
        with Client(client.url).session as session:
            url = f"{client.url}/inbox/slow"
            answers.append(session.post(url, data=BODY, headers=signed, timeout=10))

    thread = threading.Thread(target=send_alone)
    thread.start()
    wait_until(lambda: kept(client))
    assert (kept(client)[0]["status"], answers) == (None, [])
    thread.join()

    assert answers[0].elapsed.total_seconds() >= 0.5
    assert (kept(client)[0]["status"], answers[0].status_code) == (500, 500)


@pytest.mark.parametrize(
    ("given", "field", "allowed"),
    [
        (None, "fault", "an object with one or more of answer, retry_after"),
        ({}, "fault", "an object with one or more of answer, retry_after"),
        ([], "fault", "an object with"),
        ({"anser": 500}, "anser", "answer, retry_after, times"),
        ({"answer": 199}, "answer", "a whole number from 200 to 599, or null"),
        ({"answer": 600}, "answer", "a whole number from 200 to 599, or null"),
        ({"answer": "503"}, "answer", "a whole number from 200 to 599, or null"),
        ({"answer": True}, "answer", "a whole number from 200 to 599, or null"),
        ({"retry_after": -1}, "retry_after", "a whole number from 0 to 86400, or null"),
        ({"times": 0}, "times", "a whole number from 1 to 1000000, or null"),
        ({"slow_seconds": -1}, "slow_seconds", "a number of seconds from 0 to 86400, or null"),
        ({"slow_seconds": 86401}, "slow_seconds", "a number of seconds from 0 to 86400, or null"),
        ({"slow_seconds": "2s"}, "slow_seconds", "a number of seconds from 0 to 86400, or null"),
        ({"slow_seconds": float("nan")}, "slow_seconds", "a number of seconds"),
        ({"drop": 1}, "drop", "true, false, or null"),
        ({"drop": True, "answer": 500}, "answer", "none with drop"),
        ({"drop": True, "redirect": "http://a/"}, "redirect", "none with drop"),
        ({"drop": True, "retry_after": 0}, "retry_after", "none with drop"),
        ({"redirect": "/x"}, "redirect", "an http(s) URL"),
        ({"redirect": "http://a/\r\nX:y"}, "redirect", "an http(s) URL"),
        ({"redirect": "ftp://a/"}, "redirect", "an http(s) URL"),
        ({"redirect": "http://[::1"}, "redirect", "an http(s) URL"),
        ({"redirect": "http://a/" + "x" * 2048}, "redirect", "an http(s) URL"),
        ({"redirect": "http://a/", "answer": 500}, "answer", "one of 301, 302, 303, 307, 308"),
    ],
    ids=[
        *("no-json", "empty", "list", "typo", "answer-low", "answer-high", "answer-text"),
        *("answer-bool", "retry-low", "times-0", "slow-low", "slow-high", "slow-text", "slow-nan"),
        *("drop-1", "drop-answer", "drop-redirect", "drop-retry", "redirect-path"),
        *("redirect-header", "redirect-ftp", "redirect-broken", "redirect-long", "redirect-500"),
    ],
)
def test_refuses_what_it_cannot_read(client: Client, given: Any, field: str, allowed: str) -> None:
    answer = client.put("/control/inbox/refused", data=json.dumps(given))
    error = answer.json()["error"]

    assert (answer.status_code, error["field"]) == (400, field)
    assert allowed in error["allowed"]
    assert allowed in error["message"]
    assert send(client, "refused").status_code == 204


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/inbox/a", "/control/inbox", "/control/inbox/a"])
def test_other_pages_cannot_change_it(client: Client, method: str, path: str) -> None:
    verb = "POST" if path == "/inbox/a" else method if path[-1] == "a" else "DELETE"
    answer = client.session.request(
        verb, client.url + path, headers={"Origin": "http://evil.example"}, data=b"{}", timeout=5
    )

    assert answer.status_code == 403
    assert kept(client) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (InboxFault(drop=True), "no answer"),
        (InboxFault(slow_seconds=2.5), "answers 204, after 2.5 s"),
        (InboxFault(302, redirect="http://a/"), "answers 302, to http://a/"),
    ],
    ids=["drop", "slow", "redirect"],
)
def test_a_fault_says_what_it_is(fault: InboxFault, words: str) -> None:
    assert str(fault) == words
