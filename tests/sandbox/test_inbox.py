"""The inbox: what it records, how it answers, and what it does wrong on request."""

import json
import threading
import time
from datetime import datetime

import pytest
import requests
from click.testing import CliRunner

from sandbox.__main__ import main
from sandbox.inbox import MAX_BODY_KEPT, Inbox
from sandbox.server import Sandbox
from sandbox.settings import Settings
from sandbox.signing import BadSecretError
from tests.sandbox.conftest import Start
from tests.sandbox.kit import Client, Clock, wait_until
from tests.sandbox.notices import BODY, headers, kept, send
from tests.sandbox.test_signing import SECRET


def test_records_a_notification(start: Start) -> None:
    client, signed = start(inbox_secret=SECRET), headers()
    before = time.time()
    answer = send(client, headers=signed)
    (seen,) = kept(client)
    received = datetime.fromisoformat(seen.pop("received_at"))

    assert (answer.status_code, answer.content) == (204, b"")
    assert before - 0.001 <= received.timestamp() <= time.time()
    assert seen == {
        "inbox": "shop",
        "id": "msg_1",
        "type": "job.succeeded",
        "job_id": "job_1",
        "status": 204,
        "verified": True,
        "problem": None,
        "deliveries": 1,
        "timestamp": signed["webhook-timestamp"],
        "signature": signed["webhook-signature"],
        "size": len(BODY),
        "body": BODY.decode(),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (headers(key=b"another"), "no signature fits"),
        (headers(ago=900), "seconds old"),
        ({}, "no webhook-id"),
    ],
    ids=["forged", "old", "bare"],
)
def test_says_what_is_not_verified(start: Start, given: dict[str, str], words: str) -> None:
    client = start(inbox_secret=SECRET)
    # A caller's server could refuse it; this one is there to look.
    assert send(client, headers=given).status_code == 204
    (seen,) = kept(client)

    assert seen["verified"] is False
    assert words in seen["problem"]


def test_without_a_secret_nothing_is_verified(client: Client) -> None:
    send(client)

    assert [(seen["verified"], seen["problem"]) for seen in kept(client)] == [(None, None)]


def test_counts_the_deliveries_of_each_id(client: Client) -> None:
    for name, message_id in (("a", "m1"), ("a", "m2"), ("a", "m1"), ("b", "m1")):
        send(client, name, headers=headers(message_id))
    for _ in range(2):
        send(client, "a", headers={})
    seen = [(one["inbox"], one["id"], one["deliveries"]) for one in kept(client)]

    # The newest first.
    assert seen == [
        *[("a", None, 1)] * 2,
        *(("b", "m1", 1), ("a", "m1", 2), ("a", "m2", 1), ("a", "m1", 2)),
    ]
    assert [one["inbox"] for one in kept(client, name="b")] == ["b"]
    assert kept(client, name="nobody") == []


@pytest.mark.parametrize(
    ("body", "kind", "job"),
    [
        (b"", None, None),
        (b"hello", None, None),
        (b"\xff\xfe", None, None),
        (b"[1]", None, None),
        (b'{"type": 5, "data": {"id": 7}}', None, None),
        (b'{"type": "a", "data": []}', "a", None),
        (b'{"data": {"id": "job_1"}}', None, "job_1"),
        (b"[" * 100_000, None, None),
    ],
    ids=["empty", "words", "bytes", "list", "numbers", "no-data", "no-type", "deep"],
)
def test_takes_any_body(client: Client, body: bytes, kind: str | None, job: str | None) -> None:
    assert send(client, data=body).status_code == 204
    (seen,) = kept(client)

    assert (seen["type"], seen["job_id"], seen["size"]) == (kind, job, len(body))
    assert len(seen["body"]) <= MAX_BODY_KEPT


def test_keeps_the_beginning_of_what_is_long(start: Start) -> None:
    body = json.dumps({"type": "t" * 9000, "data": {"id": "job_1"}, "x": "y" * 90_000}).encode()
    client = start(inbox_secret=SECRET)
    send(client, data=body, headers=headers("m" * 9000, body))
    (seen,) = kept(client)

    # Verified and read as a whole, kept in part.
    assert (seen["verified"], seen["job_id"], seen["size"]) == (True, "job_1", len(body))
    assert seen["body"] == body[:MAX_BODY_KEPT].decode()
    assert (seen["id"], seen["type"]) == ("m" * 500, "t" * 500)


def test_keeps_the_newest(clock: Clock) -> None:
    inbox = Inbox(None, clock, max_kept=3)
    for message_id in ("m1", "m1", "m2", "m2", "m2"):
        inbox.take("a", {"webhook-id": message_id}, b"")

    assert [(one.id, times) for one, times in inbox.newest_first()] == [("m2", 3)] * 3
    # Nothing of those that went is left.
    assert list(inbox._times) == [("a", "m2")]


@pytest.mark.parametrize("name", ["a b", "x" * 65, "ä", "a%2Fb"])
def test_refuses_a_name_that_is_none(client: Client, name: str) -> None:
    assert send(client, name).status_code == 404
    answer = client.put(f"/control/inbox/{name}", json={"drop": True})
    if "/" not in name and "%" not in name:
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "name")


def test_forgets_what_came_and_stays_broken(client: Client) -> None:
    client.put("/control/inbox/forgets", json={"answer": 500, "times": 2})
    send(client, "forgets")
    assert client.delete("/control/inbox").status_code == 204

    assert kept(client) == []
    send(client, "forgets")
    assert [(seen["status"], seen["deliveries"]) for seen in kept(client)] == [(500, 1)]


def test_the_page_forgets_both(client: Client) -> None:
    client.put("/control/inbox/both", json={"answer": 500})
    send(client, "both")
    client.post("/forget")

    assert kept(client) == []
    assert send(client, "both").status_code == 204


# Nothing hangs


def _threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_a_slow_answer_ends_when_the_client_goes_away(client: Client) -> None:
    client.put("/control/inbox/away", json={"slow_seconds": 3600, "times": 1})
    before = _threads()
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{client.url}/inbox/away", data=BODY, timeout=0.2)

    wait_until(lambda: _threads() <= before)
    assert [seen["status"] for seen in kept(client)] == [None]


def test_a_slow_answer_ends_when_the_sandbox_stops() -> None:
    before = _threads()
    failed: list[bool] = []

    def send(url: str) -> None:
        try:
            requests.post(f"{url}/inbox/a", data=BODY, timeout=10)
        except requests.ConnectionError:
            failed.append(True)

    with Sandbox(Settings(port=0)) as sandbox:
        client = Client(sandbox.url)
        client.put("/control/inbox/a", json={"slow_seconds": 3600})
        thread = threading.Thread(target=send, args=(sandbox.url,))
        thread.start()
        wait_until(lambda: kept(client))
        client.session.close()
    thread.join()

    assert failed == [True]
    wait_until(lambda: _threads() <= before)


def test_a_hanging_submission_ends_when_the_client_goes_away(client: Client) -> None:
    before = _threads()
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{client.url}/evolink/v1/images/generations",
            json={"model": "nano-banana-2-lite", "prompt": "x [sandbox: hang=3600]"},
            headers={"Authorization": client.session.headers["Authorization"]},
            timeout=0.3,
        )

    wait_until(lambda: _threads() <= before)
    assert len(client.tasks()) == 1


# The command and the page


@pytest.mark.parametrize("secret", ["x", "whsec_", "whsec_!"])
def test_the_command_refuses_a_secret_that_is_none(secret: str) -> None:
    result = CliRunner().invoke(main, [], env={"SANDBOX_INBOX_SECRET": secret})

    assert result.exit_code == 2
    assert "allowed: whsec_ and then a key in base64" in result.output


def test_a_sandbox_refuses_a_secret_that_is_none(clock: Clock) -> None:
    with pytest.raises(BadSecretError):
        Inbox("whsec_", clock)


def test_the_page_shows_each_notification_once(start: Start) -> None:
    client = start(inbox_secret=SECRET)
    client.put("/control/inbox/shop", json={"answer": 503, "retry_after": 5, "times": 3})
    for _ in range(2):
        send(client, headers=headers("msg_repeated"))
    send(client, "other", headers=headers("msg_forged", key=b"x"))
    send(client, "other", headers={}, data=b"<script>")
    live = client.get("/live").text

    assert live.count("msg_repeated") == 1
    assert live.count('<b class="no">503</b>') == 2
    assert '<span class="ok">verified</span>' in live
    assert '<span class="no">no signature fits</span>' in live
    assert '<span class="no">no webhook-id</span>' in live
    assert "answers 503, Retry-After: 5</span>, 1 more time" in live
    assert f"{client.url}/inbox/NAME" in client.get("/").text


def test_the_page_says_when_nothing_is_checked(client: Client) -> None:
    send(client)

    assert '<span class="none">not checked</span>' in client.get("/live").text
