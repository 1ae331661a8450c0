"""Delivery: retries, redirects, receivers that are not there, and secrets kept out of sight."""

import json
import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sandbox.callbacks import altered, redacted
from sandbox.evolink import EvoLink
from sandbox.hiapi import HiAPI
from tests.sandbox.conftest import Start
from tests.sandbox.kit import Client, Receiver, wait_until


def test_retries_until_a_2xx(client: Client, provider: str, receiver: Receiver) -> None:
    receiver.answers = [500, 404, 204]
    task = client.submitted(provider, callback=receiver.url())
    sent = client.callbacks(task, 3)

    assert [call["kind"] for call in sent] == ["true", "retry", "retry"]
    assert [call["status"] for call in sent] == [500, 404, 204]
    assert len({received.body for received in receiver.received}) == 1


def test_gives_up_after_three_retries(client: Client, provider: str, receiver: Receiver) -> None:
    receiver.answers = [500] * 10
    # The conflicting callback comes when the true one is given up: it marks the end of the retries.
    task = client.submitted(provider, "x [sandbox: conflict]", callback=receiver.url())
    kinds = [call["kind"] for call in client.callbacks(task, 5)]

    assert kinds[:5] == ["true", "retry", "retry", "retry", "conflict"]


def test_waits_longer_before_each_retry(start: Start, receiver: Receiver) -> None:
    client = start(callback_retry_seconds=(0.05, 0.2))
    receiver.answers = [500, 500]
    client.submitted("hiapi", callback=receiver.url())
    first, second, third = (received.at for received in receiver.wait_for(3))

    assert second - first >= 0.05
    assert third - second >= 0.2


def test_the_documented_waits() -> None:
    assert EvoLink.retry_seconds == (1.0, 2.0, 4.0)
    assert HiAPI.retry_seconds == (1.0, 2.0, 4.0)


def test_signs_each_retry_anew(client: Client, receiver: Receiver) -> None:
    receiver.answers = [500]
    client.submitted("hiapi", callback=receiver.url())
    for received in receiver.wait_for(2):
        assert abs(int(received.headers["X-HiAPI-Timestamp"]) - received.at) < 2


def test_follows_no_redirect(client: Client, receiver: Receiver) -> None:
    receiver.answers = [302, 307]
    receiver.headers["Location"] = receiver.url("/elsewhere")
    task = client.submitted("evolink", callback=receiver.url())

    assert [call["status"] for call in client.callbacks(task, 3)] == [302, 307, 200]
    assert {received.path for received in receiver.received} == {"/callbacks/hiapi/job_1.1/AbCdEf"}


def test_records_a_receiver_that_is_not_there(client: Client, provider: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/cb/secret-token"
        task = client.submitted(provider, callback=url)
        sent = client.callbacks(task, 4)

    assert {call["status"] for call in sent} == {None}
    assert "ConnectionError" in sent[0]["error"]
    assert "secret-token" not in sent[0]["error"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/callbacks/hiapi/job_1.1/token", "https://h/callbacks/hiapi/job_1.1/***"),
        ("https://h:8443/cb?secret=1", "https://h:8443/***"),
        ("https://h", "https://h/***"),
    ],
)
def test_redacts_the_last_segment(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url", ["https://h/a/Abc", "https://h/a/xyz", "https://h/a/", "https://h/a?q=1"]
)
def test_a_forged_url_differs_in_the_last_segment_only(url: str) -> None:
    forged = altered(url)

    assert forged != url
    assert forged.startswith("https://h/a/" if "/a/" in url else "https://h/")
    assert forged.endswith("?q=1") == url.endswith("?q=1")


def test_logs_and_page_keep_the_secret(client: Client, receiver: Receiver) -> None:
    with capture_logs() as logs:
        task = client.submitted("hiapi", callback=receiver.url("/cb/secret-token"))
        (sent,) = client.callbacks(task, 1)
        wait_until(lambda: [entry for entry in logs if entry["event"] == "callback_sent"])
    page = client.get("/").text

    assert sent["url"].endswith("/cb/secret-token")
    assert "/cb/***" in page
    assert "/cb/***" in str(logs)
    assert "secret-token" not in page + str(logs)


def test_a_tasks_terminal_callback_can_be_sent_again(
    client: Client, provider: str, receiver: Receiver
) -> None:
    task = client.submitted(provider, "x [sandbox: drop]", callback=receiver.url())
    seen = client.finished(provider, task)

    first = client.post(f"/control/tasks/{task}/callback")
    second = client.post(f"/control/tasks/{task}/callback")

    assert (first.status_code, first.json()["kind"], first.json()["status"]) == (200, "true", 200)
    assert second.json()["kind"] == "duplicate"
    assert [json.loads(received.body) for received in receiver.received] == [seen, seen]


def test_sending_again_needs_an_ended_task_with_a_callback(client: Client, provider: str) -> None:
    running = client.submitted(provider, "x [sandbox: slow=60]", callback="http://127.0.0.1:1/cb")
    silent = client.submitted(provider)
    client.finished(provider, silent)

    for task, status in ((running, 409), (silent, 409), ("nope", 404)):
        assert client.post(f"/control/tasks/{task}/callback").status_code == status


def test_shares_no_code_with_the_orchestrator() -> None:
    package = Path(__file__).parents[2] / "sandbox"
    for module in package.glob("*.py"):
        source = module.read_text()
        for name in ("orchestrator", "workers", "webhooks"):
            assert f"import {name}" not in source
            assert f"from {name}" not in source
