"""The inbox: what it stores, and its secret, its page and its slow answers."""

import json
import time
from datetime import datetime

import pytest
from click.testing import CliRunner

from sandbox.__main__ import main
from sandbox.inbox import MAX_STORED_BODY_BYTES, Inbox
from sandbox.server import Sandbox
from sandbox.settings import SandboxSettings
from sandbox.signing import BadSecretError
from tests.sandbox.conftest import Start
from tests.sandbox.kit import MovableClock, SandboxClient, connection_threads, wait_until
from tests.sandbox.notices import BODY, SECRET, headers, send, stored


def test_stores_a_notification(start: Start) -> None:
    client, signed = start(inbox_secret=SECRET), headers()
    before = time.time()
    answer = send(client, headers=signed)
    (notification,) = stored(client)
    received = datetime.fromisoformat(notification.pop("received_at"))

    assert (answer.status_code, answer.content) == (204, b"")
    assert before - 0.001 <= received.timestamp() <= time.time()
    assert notification == {
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
    ("key", "problem"),
    [(b"another", "no signature matches"), (None, "webhook-id is missing")],
    ids=["forged", "unsigned"],
)
def test_answers_and_stores_a_notification_that_is_not_verified(
    start: Start, key: bytes | None, problem: str
) -> None:
    client = start(inbox_secret=SECRET)
    # The headers hold a timestamp, so they are made when the test runs.
    signed = {} if key is None else headers(key=key)
    assert send(client, headers=signed).status_code == 204
    (notification,) = stored(client)

    assert (notification["verified"], notification["problem"]) == (False, problem)


def test_verifies_nothing_without_a_secret(client: SandboxClient) -> None:
    send(client)

    assert [(one["verified"], one["problem"]) for one in stored(client)] == [(None, None)]


def test_counts_the_deliveries_of_each_id(client: SandboxClient) -> None:
    for name, message_id in (("a", "m1"), ("a", "m2"), ("a", "m1"), ("b", "m1")):
        send(client, name, headers=headers(message_id))
    for _ in range(2):
        send(client, "a", headers={})
    deliveries = [(one["inbox"], one["id"], one["deliveries"]) for one in stored(client)]

    # The newest notification is first.
    assert deliveries == [
        *[("a", None, 1)] * 2,
        *(("b", "m1", 1), ("a", "m1", 2), ("a", "m2", 1), ("a", "m1", 2)),
    ]
    assert [one["inbox"] for one in stored(client, name="b")] == ["b"]
    assert stored(client, name="nobody") == []


@pytest.mark.parametrize(
    ("body", "kind", "job"),
    [
        (b"hello", None, None),
        (b"\xff\xfe", None, None),
        (b"[1]", None, None),
        (b'{"type": 5, "data": {"id": 7}}', None, None),
        (b'{"type": "a", "data": []}', "a", None),
        (b'{"data": {"id": "job_1"}}', None, "job_1"),
        (b"[" * 100_000, None, None),
    ],
    ids=["text", "bytes", "list", "numbers", "no-data", "no-type", "deep"],
)
def test_stores_any_body(
    clock: MovableClock, body: bytes, kind: str | None, job: str | None
) -> None:
    notification, _ = Inbox(None, clock).record("a", {}, body)

    assert (notification.type, notification.job_id, notification.size) == (kind, job, len(body))
    assert notification.body == body[:MAX_STORED_BODY_BYTES]


def test_stores_a_part_of_a_long_notification(start: Start) -> None:
    body = json.dumps({"type": "t" * 9000, "data": {"id": "job_1"}, "x": "y" * 90_000}).encode()
    client = start(inbox_secret=SECRET)
    send(client, data=body, headers=headers("m" * 9000, body))
    (notification,) = stored(client)

    # The whole notification is verified and read.
    assert (notification["verified"], notification["job_id"]) == (True, "job_1")
    assert notification["size"] == len(body)
    assert notification["body"] == body[:MAX_STORED_BODY_BYTES].decode()
    assert (notification["id"], notification["type"]) == ("m" * 500, "t" * 500)


def test_stores_the_newest(clock: MovableClock) -> None:
    inbox = Inbox(None, clock, max_stored=3)
    for message_id in ("m1", "m1", "m2", "m2", "m2"):
        inbox.record("a", {"webhook-id": message_id}, b"")

    assert [(one.id, count) for one, count in inbox.newest_first()] == [("m2", 3)] * 3
    # Nothing of the dropped notifications uses memory.
    assert list(inbox._deliveries) == [("a", "m2")]


@pytest.mark.parametrize("name", ["a b", "x" * 65, "ä"])
def test_refuses_a_wrong_name(client: SandboxClient, name: str) -> None:
    assert send(client, name).status_code == 404
    answer = client.put(f"/control/inbox/{name}", json={"drop": True})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "name")


def test_deleting_notifications_keeps_the_faults(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"answer": 500, "times": 2})
    send(client, "a")
    assert client.delete("/control/inbox").status_code == 204

    assert stored(client) == []
    send(client, "a")
    assert [(one["status"], one["deliveries"]) for one in stored(client)] == [(500, 1)]


def test_the_page_forgets_notifications_and_faults(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"answer": 500})
    send(client, "a")
    client.post("/forget")

    assert stored(client) == []
    assert send(client, "a").status_code == 204


# A slow answer ends early


def test_a_slow_answer_ends_when_the_client_disconnects(client: SandboxClient) -> None:
    client.put("/control/inbox/a", json={"slow_seconds": 3600, "times": 1})
    before = connection_threads()
    connection = client.connect()
    connection.request("POST", "/inbox/a", BODY)
    wait_until(lambda: stored(client))
    connection.close()

    wait_until(lambda: not connection_threads() - before)
    assert [one["status"] for one in stored(client)] == [None]


def test_a_slow_answer_ends_when_the_sandbox_stops() -> None:
    before = connection_threads()
    with Sandbox(SandboxSettings(port=0)) as sandbox:
        client = SandboxClient(sandbox.url)
        client.put("/control/inbox/a", json={"slow_seconds": 3600})
        connection = client.connect()
        connection.request("POST", "/inbox/a", BODY)
        wait_until(lambda: stored(client))
        client.session.close()

    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    wait_until(lambda: not connection_threads() - before)


def test_a_hanging_submission_ends_when_the_client_disconnects(client: SandboxClient) -> None:
    before = connection_threads()
    with client.open_submission("evolink", "x [sandbox: hang=3600]"):
        pass

    wait_until(lambda: not connection_threads() - before)
    assert len(client.tasks()) == 1


# The command and the page


def test_a_wrong_secret_is_refused(clock: MovableClock) -> None:
    result = CliRunner().invoke(main, [], env={"SANDBOX_INBOX_SECRET": "whsec_!"})

    assert result.exit_code == 2
    assert "must be whsec_ followed by a key in base64" in result.output
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
    assert '<span class="no">no signature matches</span>' in live
    assert '<span class="no">webhook-id is missing</span>' in live
    assert "answers 503, Retry-After: 5</span>, 1 more time" in live
    assert f"{client.url}/inbox/NAME" in client.get("/").text


def test_the_page_shows_a_notification_without_a_secret(client: SandboxClient) -> None:
    send(client)

    assert '<span class="none">not verified</span>' in client.get("/live").text
