"""Connections with a deadline: each body has the deadline of its own call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from ipaddress import IPv4Address
from pathlib import Path
from ssl import SSLCertVerificationError

import pytest

from orchestrator.net import guard
from orchestrator.net.deadline import ActiveCall, Connections, Request, Response
from orchestrator.net.guard import Guard, Target
from tests.net.servers import HANG_SECONDS, Peer, Serve, answer, certificate, saying, serving

CALL_SECONDS = 0.3


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as begin:
        yield begin


@pytest.fixture
def connections() -> Connections:
    return Connections(4)


def call_of(seconds: float, connect_timeout: float = 30) -> ActiveCall:
    return ActiveCall(time.monotonic() + seconds, connect_timeout, Guard(allow_private=True))


def exchange(
    connections: Connections, port: int, call: ActiveCall, scheme: str = "http"
) -> Response:
    request = Request("GET", Target(scheme, "127.0.0.1", port, "/"), {})
    return connections.exchange(request, call)


def body(response: Response) -> bytes:
    return b"".join(iter(lambda: response.read1(1 << 20), b""))


def head_then_trickle(peer: Peer) -> None:
    peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    peer.trickle(b"x")


def test_a_newer_call_of_the_thread_does_not_extend_an_older_one(
    serve: Serve, connections: Connections
) -> None:
    slow, fast = serve(head_then_trickle), serve(saying(answer(b"{}")))
    older = exchange(connections, slow.port, call_of(CALL_SECONDS))
    newer = exchange(connections, fast.port, call_of(10 * HANG_SECONDS))

    with older, pytest.raises(TimeoutError):
        body(older)
    with newer:
        assert body(newer) == b"{}"


def test_another_thread_may_read_the_body(serve: Serve, connections: Connections) -> None:
    response = exchange(connections, serve(saying(answer(b"{}" * 9000))).port, call_of(60))
    bodies: list[bytes] = []

    reader = threading.Thread(target=lambda: bodies.append(body(response)))
    reader.start()
    reader.join()

    assert bodies == [b"{}" * 9000]


def test_headers_that_trickle_get_no_more_time(serve: Serve, connections: Connections) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        peer.trickle(b"X: 1\r\n")

    with pytest.raises(TimeoutError):
        exchange(connections, serve(act).port, call_of(CALL_SECONDS))


def test_nothing_is_sent_to_a_server_with_an_untrusted_certificate(
    serve: Serve, connections: Connections, tmp_path: Path
) -> None:
    tls, trusting = certificate(tmp_path, "127.0.0.1")
    server = serve(saying(answer(b"{}")), tls)

    with pytest.raises(SSLCertVerificationError):
        exchange(connections, server.port, call_of(60), "https")
    assert server.requests == []

    with exchange(Connections(1, trusting), server.port, call_of(60), "https") as response:
        assert body(response) == b"{}"


def test_an_ended_call_opens_no_connection(serve: Serve, connections: Connections) -> None:
    server = serve(saying(answer(b"{}")))

    with pytest.raises(TimeoutError):
        exchange(connections, server.port, call_of(0))

    assert server.connections == 0


def test_an_error_is_not_retried(serve: Serve, connections: Connections) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.reset()

    server = serve(act)
    with pytest.raises((HTTPException, OSError)):
        exchange(connections, server.port, call_of(60))

    assert (server.connections, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_answers_are_not_the_answer(
    serve: Serve, connections: Connections, status: int
) -> None:
    interim = b"HTTP/1.1 %d Wait\r\nLink: </a.css>\r\n\r\n" % status
    server = serve(saying(interim * 2 + answer(b"{}")))

    for _ in range(2):
        with exchange(connections, server.port, call_of(60)) as response:
            assert (response.status, body(response)) == (200, b"{}")

    assert server.connections == 1


def test_interim_answers_without_end_get_no_more_time(
    serve: Serve, connections: Connections
) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.trickle(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    with pytest.raises(TimeoutError):
        exchange(connections, serve(act).port, call_of(CALL_SECONDS))


def test_a_slow_name_resolution_is_part_of_connecting(
    serve: Serve, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(saying(answer(b"{}")))

    def slow(*_: object) -> list[IPv4Address]:
        threading.Event().wait(2 * CALL_SECONDS)
        return [IPv4Address("127.0.0.1")]

    monkeypatch.setattr(guard, "resolve", slow)
    with pytest.raises(TimeoutError):
        exchange(connections, server.port, call_of(60, connect_timeout=CALL_SECONDS))

    assert server.connections == 0


def test_a_connection_that_changed_its_protocol_is_not_used_again(
    serve: Serve, connections: Connections
) -> None:
    server = serve(saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))

    for _ in range(2):
        with exchange(connections, server.port, call_of(60)) as response:
            assert response.status == 101

    assert server.connections == 2


def test_no_more_idle_connections_are_kept_than_allowed(serve: Serve) -> None:
    connections = Connections(2)
    servers = [serve(saying(answer(b"{}"))) for _ in range(3)]

    def use(*ports: int) -> None:
        """Use a connection to each of these ports at the same time."""
        with ExitStack() as stack:
            for port in ports:
                body(stack.enter_context(exchange(connections, port, call_of(60))))

    use(*[servers[0].port] * 3)
    use(*[servers[0].port] * 3)
    assert servers[0].connections == 4, "two of three were idle"
    for server in (*servers, servers[0]):
        use(server.port)
    assert [server.connections for server in servers] == [5, 1, 1], "the oldest host was left"
