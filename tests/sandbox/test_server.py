"""The server underneath: connections, bodies, many clients at once."""

import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest

from sandbox.app import MAX_BODY
from sandbox.server import Sandbox
from sandbox.settings import Settings
from tests.sandbox.kit import KEY, Client, Receiver, wait_until

HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def connection(client: Client) -> http.client.HTTPConnection:
    return _connect(client)


def _connect(client: Client) -> http.client.HTTPConnection:
    parts = urlsplit(client.url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)


def test_keeps_connections_alive(connection: http.client.HTTPConnection) -> None:
    connection.connect()
    first = connection.sock
    for method, path, body in (
        ("GET", "/healthz", None),
        ("HEAD", "/healthz", None),
        ("POST", "/nowhere", b"a body nobody reads"),
        ("POST", "/hiapi/v1/tasks", b"{"),
        ("DELETE", "/control/faults", None),
        ("GET", "/", None),
    ):
        connection.request(method, path, body, HEADERS)
        connection.getresponse().read()

    assert connection.sock is first
    connection.close()


def test_reads_a_chunked_body(connection: http.client.HTTPConnection) -> None:
    body = json.dumps({"model": "Nano-Banana-2", "input": {"prompt": "x"}}).encode()
    connection.request(
        "POST", "/hiapi/v1/tasks", iter([body[:9], body[9:]]), HEADERS, encode_chunked=True
    )

    assert connection.getresponse().status == 200
    connection.close()


def test_refuses_a_body_that_is_too_large(connection: http.client.HTTPConnection) -> None:
    connection.putrequest("POST", "/evolink/v1/images/generations")
    for name, value in HEADERS.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(MAX_BODY + 1))
    connection.endheaders()
    answer = connection.getresponse()

    assert answer.status == 413
    assert json.loads(answer.read())["error"]["type"] == "request_too_large_error"
    assert answer.headers["Connection"] == "close"
    connection.close()


@pytest.mark.parametrize("length", ["x", "-1"])
def test_refuses_a_length_that_is_none(connection: http.client.HTTPConnection, length: str) -> None:
    connection.request("POST", "/hiapi/v1/tasks", None, {**HEADERS, "Content-Length": length})
    answer = connection.getresponse()

    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    connection.close()


def test_serves_64_connections_at_once(client: Client, receiver: Receiver) -> None:
    connections = [_connect(client) for _ in range(64)]
    together = threading.Barrier(64)
    statuses: list[int] = []

    def submit(number: int) -> None:
        connection = connections[number]
        connection.connect()
        together.wait(10)
        for turn in range(3):
            url = receiver.url(f"/cb/{number}.{turn}")
            body = {
                "model": "Nano-Banana-2",
                "input": {"prompt": f"Cube {number}.{turn}"},
                "callback": {"url": url},
            }
            connection.request("POST", "/hiapi/v1/tasks", json.dumps(body), HEADERS)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 192
    assert len({received.path for received in receiver.wait_for(192)}) == 192


def test_opens_no_thread_per_task(client: Client) -> None:
    before = threading.active_count()
    for number in range(50):
        client.submitted("evolink", f"Cube {number} [sandbox: slow=60]")

    assert threading.active_count() <= before + 2


def test_cuts_its_connections_when_it_stops() -> None:
    with Sandbox(Settings(port=0)) as sandbox:
        connection = _connect(Client(sandbox.url))
        connection.request("GET", "/healthz")
        connection.getresponse().read()

    def closed() -> bool:
        assert connection.sock is not None
        return connection.sock.recv(1) == b""

    assert wait_until(closed)
    connection.close()
