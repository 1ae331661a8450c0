"""Connections of slow, hasty and hostile clients: the front in a server with real sockets."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from uvicorn import Server

from orchestrator.api.holds import ENVIRON_KEY, Hold
from tests.ledger.kit import eventually
from tests.webhooks.test_front import FakeSubscription
from webhooks import connection
from webhooks.__main__ import server_config
from webhooks.connection import MAX_HEADERS, MAX_PIPELINED, Connection
from webhooks.exchange import MAX_ANSWER_BYTES
from webhooks.front import Front

#: More than the system keeps of an answer that nobody reads. Bytes.
LONG = 64 * 1024 * 1024
#: An answer that is kept in memory. Bytes.
PART = MAX_ANSWER_BYTES - 1


def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    """Answer what a request contains."""
    path = environ["PATH_INFO"]
    start("200 OK", [])
    if path == "/long":
        return (b"x" * 65_536 for _ in range(LONG // 65_536))
    if path == "/part":
        return [b"x" * PART]
    if path == "/unwanted":
        return [b"not read"]
    if path == "/held":
        environ[ENVIRON_KEY] = Hold("channel", lambda: False, 3600)
        return [b"held"]
    headers = sorted(name for name in environ if name.startswith("HTTP_"))
    return [" ".join(headers).encode(), b" ", environ["wsgi.input"].read()]


class Running:
    """A server in a thread."""

    def __init__(self) -> None:
        self.subscriptions: list[FakeSubscription] = []
        self.front = Front(
            app,
            max_body_bytes=LONG,
            max_held=10,
            subscribe=self._subscribe,  # type: ignore[arg-type]
        )
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.server = Server(server_config("127.0.0.1", 0, 1, self.front))
        self._thread = threading.Thread(target=self.server.run, args=([self.listening],))
        self._thread.start()
        eventually(lambda: self.server.started)

    def _subscribe(self, changed: Any) -> FakeSubscription:
        self.subscriptions.append(FakeSubscription(changed))
        return self.subscriptions[-1]

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    def connect(self, data: bytes = b"") -> socket.socket:
        """Return a connection on which `data` was sent."""
        one = socket.create_connection(self.listening.getsockname(), 60)
        one.sendall(data)
        return one


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def request(path: str = "/", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def read_all(one: socket.socket) -> bytes:
    """Return what comes until the connection is closed."""
    received = bytearray()
    with suppress(ConnectionResetError):
        while more := one.recv(65_536):
            received += more
    return bytes(received)


def statuses(answers: bytes) -> list[int]:
    return [int(each[:3]) for each in answers.split(b"HTTP/1.1 ")[1:]]


def only_connection(running: Running) -> Connection:
    eventually(lambda: running.server.server_state.connections)
    (served,) = cast("set[Connection]", running.server.server_state.connections)
    return served


def unread_connection(running: Running) -> Connection:
    """Return the only connection, once its client has not read all that the system takes."""
    served = only_connection(running)
    eventually(lambda: served.flow.write_paused)
    return served


def check_often(monkeypatch: pytest.MonkeyPatch, served: Connection) -> None:
    """Check a connection again and again. Its request may not arrive in so short a time."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.01)

    def check() -> None:
        served._check.cancel()
        served._close_or_check_later()

    served.loop.call_soon_threadsafe(check)


# Slow clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"POST /callbacks HTTP/1.1\r\nHos", request() + b"GET /"])
def test_a_request_that_does_not_come_ends_its_connection(
    begun: bytes, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    with capture_logs() as lines, running.connect(begun) as one:
        if begun.startswith(b"GET"):
            assert statuses(one.recv(65_536)) == [200]
        check_often(monkeypatch, only_connection(running))
        assert read_all(one) == b""
    assert [line["event"] for line in lines] == ["connection_closed"]


def test_line_ends_between_requests_do_not_keep_a_connection(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    with running.connect(request()) as one:
        assert statuses(one.recv(65_536)) == [200]
        one.sendall(b"\r\n")
        check_often(monkeypatch, only_connection(running))
        assert read_all(one) == b""


def test_an_answer_that_nobody_reads_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    with capture_logs() as lines, running.connect(request("/long")):
        served = unread_connection(running)
        monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.1)
        check_often(monkeypatch, served)
        eventually(lambda: lines)
        eventually(lambda: not running.server.server_state.tasks)
    assert "nothing of an answer was read" in lines[0]["reason"]


def test_an_answer_that_is_read_slowly_is_sent_to_its_end(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    with running.connect(request("/long", "Connection: close")) as one:
        check_often(monkeypatch, unread_connection(running))
        head, _, content = read_all(one).partition(b"\r\n\r\n")
    assert f"content-length: {LONG}".encode() in head
    assert content.count(b"x") == len(content) == LONG


@pytest.mark.parametrize("stopping", [False, True])
def test_the_rest_of_the_last_answer_waits_for_its_reader(
    stopping: bool, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 3600.0)
    monkeypatch.setattr(connection, "STOP_UNREAD_SECONDS", 3600.0)
    running.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with running.connect(request("/part", "Connection: close")) as one:
        served = unread_connection(running)
        eventually(served.transport.is_closing)
        running.server.should_exit = stopping
        eventually(lambda: served._is_stopping == stopping)
        now = served.loop.time()
        assert served._reason_to_close(now) is None
        assert served._reason_to_close(now + 2 * connection.HEAD_SECONDS) is None
        assert read_all(one).count(b"x") == PART


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what it has not sent")
def test_a_client_that_reads_little_at_a_time_is_seen_to_read(running: Running) -> None:
    with running.connect(request("/long")) as one:
        served = unread_connection(running)
        now = served.loop.time()
        assert served._reason_to_close(now) is None
        assert len(one.recv(65_536, socket.MSG_WAITALL)) == 65_536
        eventually(lambda: served._unread_bytes() != served._unread)
        assert served._reason_to_close(now + 3600) is None


def test_a_client_that_reads_nothing_does_not_hold_up_a_stop(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    with capture_logs() as lines, running.connect(request("/long")):
        served = unread_connection(running)
        monkeypatch.setattr(connection, "STOP_UNREAD_SECONDS", 0.1)
        check_often(monkeypatch, served)
        running.stop()
    assert [line["reason"] for line in lines] == ["nothing of an answer was read for 0.1 s"]


@pytest.mark.parametrize("following", [b"", b"nonsense\r\n\r\n", b"GET /"])
def test_a_held_answer_outlives_the_limits_and_is_given_at_the_stop(
    following: bytes, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.0)
    checks, check = list[float](), Connection._reason_to_close

    def counted(one: Connection, now: float) -> str | None:
        checks.append(now)
        return check(one, now)

    monkeypatch.setattr(Connection, "_reason_to_close", counted)
    with running.connect(request("/held") + following) as one:
        eventually(lambda: running.subscriptions[0].channels)
        check_often(monkeypatch, only_connection(running))
        eventually(lambda: len(checks) > 20)
        running.server.should_exit = True
        answer = read_all(one)
    assert (statuses(answer), answer[-4:]) == ([200], b"held")


def test_a_request_is_refused_when_too_many_clients_are_connected(running: Running) -> None:
    running.server.config.limit_concurrency = 2
    with running.connect() as first, capture_logs() as lines:
        eventually(lambda: running.server.server_state.connections)
        with running.connect(request("/v1/images/generations")) as one:
            answer = read_all(one)
        eventually(lambda: len(running.server.server_state.connections) == 1)
        first.sendall(request("/", "Connection: close"))
        assert statuses(read_all(first)) == [200]
    assert statuses(answer) == [503]
    assert b"\r\nretry-after: 1\r\n" in answer
    assert answer.partition(b"\r\n\r\n")[2].startswith(b'{"error":')
    assert [line["event"] for line in lines] == ["request_refused"]


# Hasty clients ---------------------------------------------------------------------------------


def test_requests_that_are_sent_together_are_answered_in_turn(running: Running) -> None:
    first = request("/", "First: 1") * 3
    with running.connect(first + request("/", "Last: 1", "Connection: close")) as one:
        answers = read_all(one)
    assert statuses(answers) == [200] * 4
    assert answers.count(b"HTTP_FIRST") == 3
    assert b"HTTP_LAST" in answers.rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("following", "answered"),
    [
        (b"nonsense\r\n\r\n", 0),
        (request() + b"nonsense\r\n\r\n", 1),
        (request() + request("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", 1),
        (request() * (MAX_PIPELINED + 2), MAX_PIPELINED),
    ],
)
def test_what_is_refused_leaves_the_answers_to_earlier_requests(
    following: bytes, answered: int, running: Running
) -> None:
    with running.connect(request("/held") + following) as one:
        eventually(lambda: running.subscriptions[0].channels)
        running.front._loop.call_soon_threadsafe(running.front.stop)
        answers = read_all(one)
    assert statuses(answers) == [200] * (1 + answered)
    assert b"\r\n\r\nheldHTTP/1.1" in answers or not answered
    assert b"\r\nconnection: close\r\n" in answers.rpartition(b"HTTP/1.1 ")[2]


@pytest.mark.parametrize("size", [100_000, 8_000_000])
def test_a_client_that_still_sends_reads_the_answer(size: int, running: Running) -> None:
    head = request("/unwanted", f"Content-Length: {size}", method="POST")
    with running.connect(head) as one:
        one.sendall(b"x" * size)
        answer = read_all(one)
    assert (statuses(answer), answer.endswith(b"not read")) == ([200], True)
    assert b"connection: close" in answer


def test_a_head_over_a_limit_is_refused_while_its_client_still_sends(running: Running) -> None:
    with running.connect(request("/", f"X: {'x' * 2_000_000}")) as one:
        assert statuses(read_all(one)) == [431]


@pytest.mark.parametrize("part", [b"X: y\r\n", b"X"])
def test_trailers_over_a_limit_are_refused(part: bytes, running: Running) -> None:
    head = request("/", "Transfer-Encoding: chunked", method="POST")
    with running.connect(head + b"4\r\nbody\r\n0\r\n" + part * 500_000) as one:
        assert statuses(read_all(one)) == [431]


def test_nothing_is_kept_of_a_connection_that_broke_between_requests(running: Running) -> None:
    with running.connect(request()) as one:
        assert statuses(one.recv(65_536)) == [200]
        (kept,) = cast("set[Connection]", running.server.server_state.connections)
        eventually(lambda: kept.timeout_keep_alive_task)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: not running.server.server_state.connections)
    assert kept.timeout_keep_alive_task is None


# Forms of requests -----------------------------------------------------------------------------


def test_trailers_are_no_headers(running: Running) -> None:
    head = request("/", "Transfer-Encoding: chunked", "Connection: close", method="POST")
    with running.connect(head + b"4\r\nbody\r\n0\r\nAuthorization: Bearer key\r\n\r\n") as one:
        answer = read_all(one)
    assert answer.endswith(b" body")
    assert b"AUTHORIZATION" not in answer


def test_a_body_after_the_offer_of_another_protocol_is_read(running: Running) -> None:
    """Java's client offers HTTP/2 with each request."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    head = request("/", *offer, "Content-Length: 4", method="POST")
    with running.connect(head + b"body") as one:
        assert one.recv(65_536).endswith(b" body")
        one.sendall(request("/", "Connection: close"))
        assert statuses(read_all(one)) == [200]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_offer_of_another_protocol_does_not_keep_a_connection(
    version: str, running: Running
) -> None:
    offer = request("/", "Connection: Upgrade, close", "Upgrade: h2c")
    data = offer.replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    if version == "1.0":
        data = data.replace(b", close", b"")
    with running.connect(data + request()) as one:
        assert statuses(read_all(one)) == [200]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\n\r\n", 400),
        (request(f"/{'x' * 70_000}"), 414),
        (request("/", *[f"X-{n}: 1" for n in range(MAX_HEADERS)]), 431),
        (request("/", "Transfer-Encoding: gzip", method="POST"), 400),
        (request("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", 400),
        (request("x:1", method="CONNECT"), 405),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
def test_a_request_that_is_not_given_to_the_application(
    data: bytes, status: int, running: Running
) -> None:
    with running.connect(data) as one:
        assert statuses(read_all(one)) == [status]


def test_a_head_without_a_body_is_sent(running: Running) -> None:
    with running.connect(request("/", "Connection: close", method="HEAD")) as one:
        assert statuses(read_all(one)) == [200]


def test_a_client_that_waits_for_a_sign_sends_its_body(running: Running) -> None:
    headers = ("Expect: 100-continue", "Content-Length: 4", "Connection: close")
    with running.connect(request("/", *headers, method="POST")) as one:
        assert one.recv(65_536).startswith(b"HTTP/1.1 100 ")
        one.sendall(b"body")
        assert read_all(one).endswith(b" body")
