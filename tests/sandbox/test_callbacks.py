"""Delivery of callbacks: retries, redirects, missing receivers and secrets."""

import json
import socket
import threading

import pytest
from structlog.testing import capture_logs

from sandbox.callbacks import alter_token, redact
from sandbox.evolink import EmulatedEvoLink
from sandbox.hiapi import EmulatedHiAPI
from tests.sandbox.conftest import Start
from tests.sandbox.kit import (
    TIMEOUT_SECONDS,
    CallbackReceiver,
    MovableClock,
    SandboxClient,
    wait_until,
)


def test_retries_until_a_2xx(client: SandboxClient, receiver: CallbackReceiver) -> None:
    receiver.answers = [500, 404, 204]
    task = client.submitted("hiapi", callback=receiver.url())
    callbacks = client.callbacks(task, 3)

    assert [one["kind"] for one in callbacks] == ["true", "retry", "retry"]
    assert [one["status"] for one in callbacks] == [500, 404, 204]
    assert len({callback.body for callback in receiver.received}) == 1


def test_gives_up_after_three_retries(client: SandboxClient, receiver: CallbackReceiver) -> None:
    receiver.answers = [500] * 10
    # The conflicting callback is sent when the true one is given up, so it marks the last retry.
    task = client.submitted("evolink", "x [sandbox: conflict]", callback=receiver.url())
    kinds = [one["kind"] for one in client.callbacks(task, 5)]

    assert kinds[:5] == ["true", "retry", "retry", "retry", "conflict"]


def test_waits_longer_before_each_retry(start: Start, receiver: CallbackReceiver) -> None:
    client = start(callback_retry_seconds=(0.05, 0.2))
    receiver.answers = [500, 500]
    client.submitted("hiapi", callback=receiver.url())
    first, second, third = (callback.at for callback in receiver.wait_for(3))

    assert second - first >= 0.05
    assert third - second >= 0.2


def test_has_the_documented_delays() -> None:
    assert EmulatedEvoLink.retry_seconds == (1.0, 2.0, 4.0)
    assert EmulatedHiAPI.retry_seconds == (1.0, 2.0, 4.0)


def test_each_retry_has_its_own_signature(
    client: SandboxClient, receiver: CallbackReceiver, clock: MovableClock
) -> None:
    receiver.answers = [500]
    gate = receiver.gate = threading.Barrier(2)
    client.submitted("hiapi", callback=receiver.url())
    wait_until(lambda: gate.n_waiting)
    clock.ahead = 1000
    for _ in range(2):
        gate.wait(TIMEOUT_SECONDS)
    first, second = (
        int(callback.headers["X-HiAPI-Timestamp"]) for callback in receiver.wait_for(2)
    )

    assert second - first >= 999


def test_follows_no_redirect(client: SandboxClient, receiver: CallbackReceiver) -> None:
    receiver.answers = [302, 307]
    receiver.headers["Location"] = receiver.url("/elsewhere")
    task = client.submitted("evolink", callback=receiver.url())

    assert [one["status"] for one in client.callbacks(task, 3)] == [302, 307, 200]
    assert {callback.path for callback in receiver.received} == {"/callbacks/hiapi/job_1.1/AbCdEf"}


def test_records_a_missing_receiver_without_its_secret(client: SandboxClient) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/cb/secret-token"
        task = client.submitted("evolink", callback=url)
        callbacks = client.callbacks(task, 4)

    assert {one["status"] for one in callbacks} == {None}
    assert "ConnectionError" in callbacks[0]["error"]
    assert "secret-token" not in callbacks[0]["error"]


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://h/callbacks/hiapi/job_1.1/token", "https://h/callbacks/hiapi/job_1.1/***"),
        ("https://h:8443/cb?secret=1", "https://h:8443/***"),
        ("https://h", "https://h/***"),
    ],
)
def test_redacts_the_last_segment(url: str, redacted: str) -> None:
    assert redact(url) == redacted


@pytest.mark.parametrize(
    ("url", "forged"),
    [
        ("https://h/a/Abc", "https://h/a/Bbc"),
        ("https://h/a/xyz", "https://h/a/Ayz"),
        ("https://h/a/", "https://h/a/A"),
        ("https://h/a?q=1", "https://h/A?q=1"),
    ],
)
def test_a_forged_url_differs_in_the_last_segment_only(url: str, forged: str) -> None:
    assert alter_token(url) == forged


def test_logs_and_page_do_not_show_the_secret(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    with capture_logs() as logs:
        task = client.submitted("hiapi", callback=receiver.url("/cb/secret-token"))
        (callback,) = client.callbacks(task, 1)
        wait_until(lambda: [entry for entry in logs if entry["event"] == "callback_sent"])
    page = client.get("/").text

    assert callback["url"].endswith("/cb/secret-token")
    assert "/cb/***" in page
    assert "/cb/***" in str(logs)
    assert "secret-token" not in page + str(logs)


def test_the_terminal_callback_can_be_sent_again(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    task = client.submitted("evolink", "x [sandbox: drop]", callback=receiver.url())
    view = client.finished("evolink", task)

    first = client.post(f"/control/tasks/{task}/callback")
    second = client.post(f"/control/tasks/{task}/callback")

    assert (first.status_code, first.json()["kind"], first.json()["status"]) == (200, "true", 200)
    assert second.json()["kind"] == "duplicate"
    assert [json.loads(callback.body) for callback in receiver.received] == [view, view]


def test_sending_again_needs_an_ended_task_with_a_callback_url(client: SandboxClient) -> None:
    running = client.submitted("hiapi", "x [sandbox: slow=3600]", callback="http://127.0.0.1:1/cb")
    without_url = client.submitted("hiapi")
    client.finished("hiapi", without_url)

    for task, code in ((running, 409), (without_url, 409), ("nope", 404)):
        assert client.post(f"/control/tasks/{task}/callback").status_code == code


def test_a_forgotten_task_sends_no_retry(client: SandboxClient, receiver: CallbackReceiver) -> None:
    receiver.answers = [500]
    gate = receiver.gate = threading.Barrier(2)
    client.submitted("evolink", callback=receiver.url("/forgotten"))
    wait_until(lambda: gate.n_waiting)
    client.delete("/control/tasks")
    receiver.gate = None
    gate.wait(TIMEOUT_SECONDS)
    # This callback is sent long after the retry would be.
    client.submitted("evolink", "x [sandbox: late=300ms]", callback=receiver.url("/kept"))

    assert [callback.path for callback in receiver.wait_for(2)] == ["/forgotten", "/kept"]
