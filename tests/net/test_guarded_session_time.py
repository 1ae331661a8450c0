"""A call of the guarded session ends when its time is over, whatever the other side does."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from orchestrator.net import guard
from orchestrator.net import guarded_session as session_module
from orchestrator.net.guard import Guard
from orchestrator.net.guarded_session import GuardedSession, PostAnswer, RequestFailed
from tests.net.asking import serve, way
from tests.net.dns import Names, names
from tests.net.servers import HANG_SECONDS, Peer, Serve, answer, certificate, saying

__all__ = ["names", "serve", "way"]

pytestmark = pytest.mark.usefixtures("way")

#: The deadline of a call. Seconds.
CALL_SECONDS = 0.4
LATE = session_module.LATE


def session(authority: Path | None = None, **changes: object) -> GuardedSession:
    if authority:
        changes["ca_bundle"] = str(authority)
    return GuardedSession(Guard(allow_private=True), **{"connect_timeout": 30, **changes})  # type: ignore[arg-type]


def late(call: Callable[[], object]) -> str:
    """Return the reason of a call that fails at its deadline, not when the server gives up.

    libcurl counts whole milliseconds.
    """
    began = time.monotonic() - 0.001
    with pytest.raises(RequestFailed) as caught:
        call()
    assert CALL_SECONDS <= time.monotonic() - began < HANG_SECONDS
    return caught.value.reason


def fetch(url: str, by: GuardedSession | None = None) -> Callable[[], object]:
    by = by or session()
    return lambda: by.fetch(url, io.BytesIO(), seconds=CALL_SECONDS, max_bytes=1 << 40)


HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + b"Content-Length: 1000000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = HEAD + b"Content-Encoding: gzip\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 O", b"K"),
        (HEAD, b"X: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (LENGTH, b""),
        (LENGTH, b"x"),
        (LENGTH + b"x" * 9000, b"x"),
        (HEAD + b"\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED, b"0"),
        (CHUNKED + b"0\r\n", b"X: 1\r\n"),
        (GZIP, b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0"),
    ],
    ids=[
        *(
            "silence",
            "status line",
            "headers",
            "100 Continue",
            "103",
            "no body",
            "body",
            "more body",
        ),
        *("endless body", "chunks", "chunk size", "trailers", "empty gzip"),
    ],
)
def test_a_trickling_server_gets_no_more_time(serve: Serve, begins: bytes, goes_on: bytes) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(begins)
        peer.trickle(goes_on)

    assert late(fetch(serve(act).url)) == LATE


def test_a_flood_of_100_continue_gets_no_more_time(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        while True:
            peer.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with pytest.raises(RequestFailed) as caught:
        fetch(serve(act).url)()
    assert caught.value.status is None


def test_a_flood_of_tiny_chunks_gets_no_more_time(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(CHUNKED)
        while True:
            peer.say(b"1\r\nx\r\n" * 1000)

    assert late(fetch(serve(act).url)) == LATE


def test_redirects_share_the_time(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.server.over.wait(CALL_SECONDS / 4)
        peer.say(answer(b"", "Location: /again", status=302))

    server = serve(act)

    assert late(fetch(server.url)) == LATE
    assert server.connections < 6


def test_an_idle_connection_is_not_made_anew_when_the_time_is_over(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(answer(b"x"))
        peer.request()
        peer.trickle(b"HTTP/1.1 200 O" + b"K" * 10_000)

    server, by = serve(act), session()
    by.fetch(server.url, io.BytesIO(), seconds=15, max_bytes=1)

    assert late(fetch(server.url, by)) == LATE
    assert server.connections == 1


def test_a_call_whose_time_is_over_resolves_nothing(names: Names) -> None:
    with pytest.raises(RequestFailed, match=LATE):
        session().fetch("http://cdn.example/", io.BytesIO(), seconds=0, max_bytes=1)

    assert names.asked == []


def test_a_call_whose_time_is_over_opens_no_connection(serve: Serve) -> None:
    server = serve(saying(answer(b"x")))

    with pytest.raises(RequestFailed, match=LATE):
        session().fetch(server.url, io.BytesIO(), seconds=0, max_bytes=1)
    with pytest.raises(RequestFailed, match=LATE):
        session().post(server.url, b"", {}, seconds=0)

    assert server.connections == 0


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener that takes no more connections, so that one hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(address)
        yield address[1]
        for other in others:
            other.close()


def test_connecting_gets_no_more_time_than_the_call(full: int) -> None:
    assert late(fetch(f"http://127.0.0.1:{full}/")) == LATE


def test_connecting_has_a_time_of_its_own(full: int) -> None:
    with pytest.raises(RequestFailed) as caught:
        session(connect_timeout=CALL_SECONDS).fetch(
            f"http://127.0.0.1:{full}/", io.BytesIO(), seconds=30, max_bytes=1
        )
    assert caught.value.reason == session_module.SLOW_CONNECTION


def test_an_address_that_hangs_leaves_time_for_the_next(
    serve: Serve, names: Names, full: int
) -> None:
    good = serve(saying(answer(b"x")), address="127.0.0.2", port=full)
    names["two.example"] = (["127.0.0.1", "127.0.0.2"],)

    session(connect_timeout=8).fetch(
        f"http://two.example:{full}/", io.BytesIO(), seconds=30, max_bytes=1
    )

    assert len(good.requests) == 1


def test_a_silent_tls_server_gets_no_more_time(serve: Serve) -> None:
    server = serve(lambda peer: peer.wait())

    assert late(fetch(f"https://127.0.0.1:{server.port}/")) == LATE


def test_a_tls_handshake_counts_as_connecting(serve: Serve) -> None:
    server = serve(lambda peer: peer.trickle(b"\x16\x03\x03\x40\x00" + bytes(9000)))

    with pytest.raises(RequestFailed) as caught:
        session(connect_timeout=CALL_SECONDS).fetch(
            f"https://127.0.0.1:{server.port}/", io.BytesIO(), seconds=30, max_bytes=1
        )
    assert caught.value.reason == session_module.SLOW_CONNECTION


def test_a_trickle_within_tls_gets_no_more_time(serve: Serve, tmp_path: Path) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(LENGTH)
        peer.trickle(b"x")

    tls, authority = certificate(tmp_path, "127.0.0.1")
    server = serve(act, tls)

    assert late(fetch(f"https://127.0.0.1:{server.port}/", session(authority=authority))) == LATE


def test_a_slow_name_resolution_is_part_of_connecting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(saying(answer(b"x")))

    def slow(*_: object) -> list[IPv4Address]:
        threading.Event().wait(2 * CALL_SECONDS)
        return [IPv4Address("127.0.0.1")]

    monkeypatch.setattr(guard, "resolve", slow)
    with pytest.raises(RequestFailed, match=session_module.SLOW_CONNECTION):
        session(connect_timeout=CALL_SECONDS).fetch(
            f"http://slow.example:{server.port}/", io.BytesIO(), seconds=30, max_bytes=1
        )

    assert server.connections == 0


# POST ----------------------------------------------------------------------------------------


def post(url: str, by: GuardedSession, body: bytes = b"{}") -> Callable[[], object]:
    return lambda: by.post(url, body, {}, seconds=CALL_SECONDS)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_server_that_reads_slowly_gets_no_more_time(
    serve: Serve, tmp_path: Path, encrypted: bool
) -> None:
    def act(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not peer.server.over.wait(0.02):
            peer.sock.recv(20_000)

    tls, authority = certificate(tmp_path, "127.0.0.1")
    server = serve(act, tls if encrypted else None)
    url = f"{'https' if encrypted else 'http'}://127.0.0.1:{server.port}/"

    assert late(post(url, session(authority=authority), bytes(50_000_000))) == LATE


def test_an_answer_that_trickles_in_gets_no_more_time(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.trickle(b"HTTP/1.1 200 O" + b"K" * 10_000)

    assert late(post(serve(act).url, session())) == LATE


def test_an_answer_is_told_soon_though_its_body_trickles(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(LENGTH)
        peer.trickle(b"x")

    monkeypatch.setattr(session_module, "MAX_DRAIN_SECONDS", CALL_SECONDS)
    server, by, began = serve(act), session(), time.monotonic()

    for _ in range(2):
        assert by.post(server.url, b"", {}, seconds=60) == PostAnswer(200, None)

    assert time.monotonic() - began < HANG_SECONDS
    assert server.connections == 2
