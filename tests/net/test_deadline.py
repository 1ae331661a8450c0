"""The adapter for all outgoing calls: each body has the deadline of its own call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from requests import RequestException
from requests import Response as RequestsResponse
from urllib3.exceptions import HTTPError

from orchestrator.net import deadline
from orchestrator.net.deadline import ActiveCall, DeadlineAdapter, innermost, prepared
from orchestrator.net.guard import Target
from tests.net.servers import HANG_SECONDS, Peer, Serve, answer, certificate, saying, serving

CALL_SECONDS = 0.3


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as begin:
        yield begin


@pytest.fixture
def adapter() -> DeadlineAdapter:
    return DeadlineAdapter(4)


def call_of(seconds: float) -> ActiveCall:
    return ActiveCall(time.monotonic() + seconds, connect_timeout=30)


def exchange(
    adapter: DeadlineAdapter, port: int, call: ActiveCall, scheme: str = "http"
) -> RequestsResponse:
    request = prepared("GET", Target(scheme, "127.0.0.1", port, "/"), {})
    return adapter.exchange(request, call)


def head_then_trickle(peer: Peer) -> None:
    peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    peer.trickle(b"x")


def test_a_newer_call_of_the_thread_does_not_extend_an_older_one(
    serve: Serve, adapter: DeadlineAdapter
) -> None:
    slow, fast = serve(head_then_trickle), serve(saying(answer(b"{}")))
    older = exchange(adapter, slow.port, call_of(CALL_SECONDS))
    newer = exchange(adapter, fast.port, call_of(10 * HANG_SECONDS))

    with older, pytest.raises(HTTPError) as caught:
        older.raw.read()
    assert isinstance(innermost(caught.value), TimeoutError)
    with newer:
        assert newer.raw.read() == b"{}"


def test_another_thread_may_read_the_body(serve: Serve, adapter: DeadlineAdapter) -> None:
    response = exchange(adapter, serve(saying(answer(b"{}" * 9000))).port, call_of(60))
    bodies: list[bytes] = []

    reader = threading.Thread(target=lambda: bodies.append(response.raw.read()))
    reader.start()
    reader.join()

    response.close()
    assert bodies == [b"{}" * 9000]


def test_headers_that_trickle_get_no_more_time(serve: Serve, adapter: DeadlineAdapter) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        peer.trickle(b"X: 1\r\n")

    call = call_of(CALL_SECONDS)
    with pytest.raises((RequestException, HTTPError)) as caught:
        exchange(adapter, serve(act).port, call)

    assert isinstance(innermost(caught.value), TimeoutError)
    assert call.sent


def test_nothing_is_sent_to_a_server_with_an_untrusted_certificate(
    serve: Serve, adapter: DeadlineAdapter, tmp_path: Path
) -> None:
    tls, trusting = certificate(tmp_path, "127.0.0.1")
    server = serve(saying(answer(b"{}")), tls)

    call = call_of(60)
    with pytest.raises((RequestException, HTTPError)) as caught:
        exchange(adapter, server.port, call, "https")
    assert type(innermost(caught.value)).__name__ == "SSLCertVerificationError"
    assert not call.sent
    assert server.requests == []

    with exchange(DeadlineAdapter(1, trusting), server.port, call_of(60), "https") as response:
        assert response.raw.read() == b"{}"


def test_an_ended_call_opens_no_connection(serve: Serve, adapter: DeadlineAdapter) -> None:
    server = serve(saying(answer(b"{}")))

    call = call_of(0)
    with pytest.raises((RequestException, HTTPError, OSError)):
        exchange(adapter, server.port, call)

    assert not call.sent
    assert server.connections == 0


def test_an_error_is_not_retried(serve: Serve, adapter: DeadlineAdapter) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.reset()

    server = serve(act)
    with pytest.raises((RequestException, HTTPError, OSError)):
        exchange(adapter, server.port, call_of(60))

    assert (server.connections, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_answers_are_not_the_answer(
    serve: Serve, adapter: DeadlineAdapter, status: int
) -> None:
    interim = b"HTTP/1.1 %d Wait\r\nLink: </a.css>\r\n\r\n" % status
    server = serve(saying(interim * 2 + answer(b"{}")))

    for _ in range(2):
        with exchange(adapter, server.port, call_of(60)) as response:
            assert (response.status_code, response.raw.read()) == (200, b"{}")

    assert server.connections == 1


def test_interim_answers_without_end_get_no_more_time(
    serve: Serve, adapter: DeadlineAdapter
) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.trickle(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    with pytest.raises((RequestException, HTTPError)) as caught:
        exchange(adapter, serve(act).port, call_of(CALL_SECONDS))

    assert isinstance(innermost(caught.value), TimeoutError)


def test_a_slow_name_resolution_is_part_of_connecting(
    serve: Serve, adapter: DeadlineAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(saying(answer(b"{}")))
    call = ActiveCall(time.monotonic() + 60, connect_timeout=CALL_SECONDS)

    def slow(*_: object) -> list[IPv4Address]:
        threading.Event().wait(2 * CALL_SECONDS)
        return [IPv4Address("127.0.0.1")]

    monkeypatch.setattr(deadline, "resolve", slow)
    with pytest.raises((RequestException, HTTPError, OSError)) as caught:
        exchange(adapter, server.port, call)

    assert isinstance(innermost(caught.value), TimeoutError)
    assert (call.sent, server.connections) == (False, 0)
