"""The receiver over raw sockets: what no client library would send, slowly, and without end."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection

import pytest
import requests

from orchestrator.cli.stack import Stack
from tests.system.rack import DONE, Rack, connection, head, settings, status
from webhooks.front import THREADS
from webhooks.receiver import MAX_BODY_BYTES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

#: What a web process may grow by under any of this. Bytes.
GROWTH = 64 * 1024 * 1024


@pytest.fixture
def rack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Rack:
    return Rack(stack, settings(stack.env, monkeypatch))


def answer(rack: Rack, data: bytes) -> int:
    """The status that these bytes are answered with."""
    with connection(rack.port, data) as one:
        return status(one.recv(4096))


def chunked(*headers: str) -> tuple[str, ...]:
    return ("Transfer-Encoding: chunked", *headers)


#: What follows the path and the host, and what is answered where the token is right.
ODD: dict[str, tuple[int, tuple[str, ...], bytes]] = {
    "two lengths that differ": (400, ("Content-Length: 2", "Content-Length: 9"), b"{}"),
    "two lengths that agree": (400, ("Content-Length: 2", "Content-Length: 2"), b"{}"),
    "a length and chunks": (400, chunked("Content-Length: 99"), b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked twice": (400, chunked("Transfer-Encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"),
    "an encoding that is none": (400, ("Transfer-Encoding: gzip",), b"{}"),
    "a chunk that is none": (400, chunked(), b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of 2^64 bytes": (400, chunked(), b"FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
    "a negative length": (400, ("Content-Length: -1",), b"{}"),
    "a length that is no number": (400, ("Content-Length: 1e3",), b"{}"),
    "a length beyond all numbers": (400, ("Content-Length: 99999999999999999999999",), b"{}"),
    "a length of 10 GB": (413, ("Content-Length: 9999999999",), b"{}"),
    "no body": (400, (), b""),
    "1000 headers": (431, tuple(f"X-{n}: y" for n in range(1000)), b""),
    "a header without a name": (400, (": y",), b""),
    "a folded header": (400, ("X-Y: a\r\n b",), b""),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_framing_is_answered_and_harms_nobody(rack: Rack, name: str) -> None:
    expected, headers, body = ODD[name]

    assert answer(rack, head(rack.path(), *headers) + body) == expected


@pytest.mark.parametrize(
    ("length", "expected"), [(60_000, {404}), (100_000, {414}), (500_000, {414, 431})]
)
def test_a_long_path_is_refused(rack: Rack, length: int, expected: set[int]) -> None:
    # Which of two limits is met first depends on how the bytes arrive.
    assert answer(rack, head(f"{rack.path()}{'x' * length}", "Content-Length: 0")) in expected


def test_a_header_of_500_kb_is_refused_or_read_to_no_avail(rack: Rack) -> None:
    assert answer(rack, head(rack.path(), f"X-Y: {'x' * 500_000}")) in {400, 431}


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff" * 20 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /\r\n\r\n",
    ],
    ids=["garbage", "TLS", "HTTP/2", "HTTP/0.9"],
)
def test_what_is_no_http_is_not_answered_as_if_it_were(rack: Rack, data: bytes) -> None:
    assert answer(rack, data) in {0, 400, 505}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "TRACE", "CONNECT"])
def test_another_method_is_405(rack: Rack, method: str) -> None:
    assert answer(rack, head(rack.path(), "Content-Length: 0", method=method)) == 405


def test_a_second_request_in_the_body_of_the_first_is_not_taken_for_one(rack: Rack) -> None:
    job_id = rack.running()
    hidden = head(rack.path(job_id), f"Content-Length: {len(DONE)}") + DONE
    path = rack.forged_path()
    with connection(rack.port, head(path, f"Content-Length: {len(hidden)}") + hidden) as one:
        one.settimeout(2)
        got = b""
        try:
            while more := one.recv(4096):
                got += more
        except TimeoutError:
            pass
    assert got.count(b"HTTP/1.1 ") == got.count(b"HTTP/1.1 404") == 1


# Endless ---------------------------------------------------------------------------------------

CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


@pytest.mark.parametrize(("forged", "expected"), [(False, 413), (True, 404)])
def test_chunks_without_end_are_answered_before_it(rack: Rack, forged: bool, expected: int) -> None:
    path = rack.forged_path() if forged else rack.path()
    before, sent = rack.memory(), 0
    with connection(rack.port, head(path, *chunked())) as one:
        try:
            while sent < 400 * MAX_BODY_BYTES:
                one.sendall(CHUNK)
                sent += 65_536
        except OSError:  # it closed the connection: what it had to say is there to be read
            pass
        got = _rest(one)

    assert sent < 400 * MAX_BODY_BYTES
    assert status(got) in {expected, 0}, "its answer may be lost with the connection"
    assert rack.memory() < before + GROWTH
    assert requests.get(f"{rack.stack.web_url}/healthz", timeout=60).status_code == 200


def test_a_callback_with_an_image_inside_takes_little_memory(rack: Rack) -> None:
    job_id, before = rack.running(), rack.memory()
    parts = [DONE[:-1] + b',"image":"', *[b"x" * 1024 * 1024] * 60, b'"}']
    headers = {"Content-Length": str(sum(map(len, parts)))}
    for _ in range(2):
        with closing(HTTPConnection("127.0.0.1", rack.port, timeout=120)) as web:
            web.request("POST", rack.path(job_id), iter(parts), headers)
            answer = web.getresponse()
            assert (answer.status, json.loads(answer.read())) == (200, {"result": "running"})

    assert rack.memory() < before + GROWTH


def _rest(one: socket.socket) -> bytes:
    try:
        return one.recv(4096)
    except OSError:
        return b""


def test_a_thousand_huge_bodies_take_no_memory(rack: Rack) -> None:
    before = rack.memory()
    huge = b"x" * (MAX_BODY_BYTES // 4)
    for _ in range(250):
        with connection(rack.port, head(rack.path(), "Content-Length: 99999999")) as one:
            with suppress(OSError):
                one.sendall(huge)
            assert status(_rest(one)) in {413, 0}

    assert rack.memory() < before + GROWTH


# Slow ------------------------------------------------------------------------------------------

BEGUN = "Content-Length: 1000"


def test_a_body_with_a_wrong_token_is_not_waited_for(rack: Rack) -> None:
    with connection(rack.port, head(rack.forged_path(), BEGUN) + b"{") as one:
        assert status(one.recv(4096)) == 404


def test_many_slow_bodies_with_right_tokens_hold_no_thread(rack: Rack) -> None:
    job_id, threads = rack.running(), rack.threads()
    with ExitStack() as stack:
        slow = [
            stack.enter_context(connection(rack.port, head(rack.path(), BEGUN) + b"{"))
            for _ in range(40)
        ]
        url = f"{rack.stack.web_url}{rack.path(job_id)}"
        assert requests.post(url, data=DONE, timeout=60).status_code == 200
        assert rack.threads() <= threads + THREADS * len(rack.processes())
        for one in slow:
            one.sendall(b"x" * 999)
        assert {status(_rest(one)) for one in slow} == {400}, "they were waited for"


@pytest.mark.parametrize(
    ("forged", "size", "expected"), [(True, 70_000, 404), (True, 300_000, 404), (False, 10**9, 413)]
)
def test_an_answer_to_an_unread_body_says_that_the_connection_is_closed(
    rack: Rack, forged: bool, size: int, expected: int
) -> None:
    path = rack.forged_path() if forged else rack.path()
    with connection(rack.port, head(path, f"Content-Length: {size}") + b"x" * 60_000) as one:
        got = _rest(one).lower()
    assert (status(got.upper()), b"connection: close" in got) == (expected, True)
    assert b"x-request-id: req_" in got


def test_a_small_body_that_is_not_wanted_leaves_the_connection_open(rack: Rack) -> None:
    request = head(rack.forged_path(), "Content-Length: 50000") + b"x" * 50_000
    with connection(rack.port) as one:
        for _ in range(2):
            one.sendall(request)
            assert status(one.recv(4096)) == 404


def test_a_body_that_comes_a_byte_at_a_time_is_taken(rack: Rack) -> None:
    job_id = rack.running()
    with connection(rack.port, head(rack.path(job_id), f"Content-Length: {len(DONE)}")) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in DONE:
            one.sendall(bytes([byte]))
        assert status(one.recv(4096)) == 200
