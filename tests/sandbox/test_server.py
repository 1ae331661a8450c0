"""The HTTP server: connections, bodies and many clients."""

import http.client
import json
import threading

import pytest

from sandbox.app import MAX_BODY_BYTES
from sandbox.server import Sandbox
from sandbox.settings import SandboxSettings
from tests.sandbox.kit import (
    KEY,
    TIMEOUT_SECONDS,
    CallbackReceiver,
    SandboxClient,
    run_together,
    submission,
)

HEADERS = {"Authorization": f"Bearer {KEY}"}

#: Connections of the test with many clients.
MANY = 40


@pytest.fixture
def connection(client: SandboxClient) -> http.client.HTTPConnection:
    return client.connect()


def test_keeps_connections_alive(connection: http.client.HTTPConnection) -> None:
    connection.connect()
    socket = connection.sock
    for method, path, body in (
        ("GET", "/healthz", None),
        ("HEAD", "/healthz", None),
        ("POST", "/nowhere", b"a body that no view reads"),
        ("POST", "/hiapi/v1/tasks", b"{"),
        ("DELETE", "/control/faults", None),
        ("GET", "/", None),
    ):
        connection.request(method, path, body, HEADERS)
        connection.getresponse().read()

    assert connection.sock is socket
    connection.close()


def test_reads_a_chunked_body(connection: http.client.HTTPConnection) -> None:
    body = json.dumps(submission("hiapi", "x")[1]).encode()
    connection.request(
        "POST", "/hiapi/v1/tasks", iter([body[:9], body[9:]]), HEADERS, encode_chunked=True
    )

    assert connection.getresponse().status == 200
    connection.close()


def test_refuses_a_body_that_is_too_large(connection: http.client.HTTPConnection) -> None:
    connection.putrequest("POST", "/evolink/v1/images/generations")
    for name, value in {**HEADERS, "Content-Length": str(MAX_BODY_BYTES + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()

    assert answer.status == 413
    assert json.loads(answer.read())["error"]["type"] == "request_too_large_error"
    assert answer.headers["Connection"] == "close"
    connection.close()


@pytest.mark.parametrize("length", ["x", "-1"])
def test_refuses_a_wrong_length(connection: http.client.HTTPConnection, length: str) -> None:
    connection.request("POST", "/hiapi/v1/tasks", None, {**HEADERS, "Content-Length": length})
    answer = connection.getresponse()

    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    connection.close()


def test_serves_many_connections_at_once(client: SandboxClient, receiver: CallbackReceiver) -> None:
    connections = [client.connect() for _ in range(MANY)]
    together = threading.Barrier(MANY)
    statuses: list[int] = []

    def submit(number: int) -> None:
        connection = connections[number]
        connection.connect()
        for turn in range(2):
            path, body = submission("hiapi", f"{number}", receiver.url(f"/cb/{number}.{turn}"))
            # Every connection is open and sends at the same time.
            together.wait(TIMEOUT_SECONDS)
            connection.request("POST", path, json.dumps(body), HEADERS)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    run_together(MANY, submit)

    assert statuses == [200] * 2 * MANY
    assert len({callback.path for callback in receiver.wait_for(2 * MANY)}) == 2 * MANY


def test_a_running_task_has_no_thread(client: SandboxClient) -> None:
    before = set(threading.enumerate())
    for number in range(MANY):
        client.submitted("evolink", f"Cube {number} [sandbox: slow=3600]")

    # The client may open a second connection, which has a thread. A thread for each task is MANY.
    assert len(set(threading.enumerate()) - before) < MANY


def test_closes_its_connections_when_it_stops() -> None:
    with Sandbox(SandboxSettings(port=0)) as sandbox:
        connection = SandboxClient(sandbox.url).connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()

    assert connection.sock is not None
    assert connection.sock.recv(1) == b""
    connection.close()
