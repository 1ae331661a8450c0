"""What slow senders can hold, and for how long."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import pytest
from werkzeug.exceptions import ServiceUnavailable

from orchestrator.api.incoming import MAX_WAIT_SECONDS
from orchestrator.api.jobs import MAX_WAITING
from orchestrator.cli.stack import procfile
from tests.ledger import kit
from tests.support.fakes import Clock
from webhooks import body_limit as module
from webhooks import idle_connections
from webhooks.body_limit import MAX_READS, SLOW_READ_SECONDS, BodyReadLimiter
from webhooks.idle_connections import MAX_SILENCE_SECONDS, close_silent


class BlockedBody:
    """A body that does not come until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked = threading.Event()

    def read(self, size: int) -> bytes:
        self.asked.set()
        assert self.go_on.wait(60)
        return b"x"


class Ready:
    def read(self, size: int) -> bytes:
        return b"y" * min(size, 3)


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def limiter(clock: Clock) -> BodyReadLimiter:
    return BodyReadLimiter(lambda *_: [], lambda: clock() / 1000)


@pytest.fixture
def slow(limiter: BodyReadLimiter) -> Iterator[list[BlockedBody]]:
    """As many bodies on their way as are read at once."""
    bodies = [BlockedBody() for _ in range(MAX_READS)]
    with ThreadPoolExecutor(MAX_READS) as pool:
        for body in bodies:
            pool.submit(limiter.read, body, 10)
        for body in bodies:
            assert body.asked.wait(60)
        yield bodies
        for body in bodies:
            body.go_on.set()


def test_a_body_is_read_as_it_is(limiter: BodyReadLimiter) -> None:
    assert limiter.read(Ready(), 2) == b"yy"


class NoWaiting(SimpleQueue[int]):
    """Slots that are all in use, and that nobody may wait for."""

    def get(self, block: bool = True, timeout: float | None = None) -> int:
        assert not block, "waits for a slot"
        return super().get(block, timeout)


def test_where_all_are_slow_another_one_is_refused_at_once(
    limiter: BodyReadLimiter,
    clock: Clock,
    slow: list[BlockedBody],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock.forward(SLOW_READ_SECONDS + 0.001)
    monkeypatch.setattr(limiter, "_slots", NoWaiting())

    with pytest.raises(ServiceUnavailable):
        limiter.read(Ready(), 1)


def test_where_one_of_them_comes_to_an_end_another_one_is_read(
    limiter: BodyReadLimiter, clock: Clock, slow: list[BlockedBody]
) -> None:
    clock.forward(SLOW_READ_SECONDS + 0.001)
    slow[0].go_on.set()
    kit.eventually(lambda: not limiter._slots.empty())

    assert limiter.read(Ready(), 1) == b"y"


def test_another_one_waits_for_its_turn(limiter: BodyReadLimiter, slow: list[BlockedBody]) -> None:
    threading.Timer(0.05, slow[0].go_on.set).start()

    assert limiter.read(Ready(), 1) == b"y"


def test_it_does_not_wait_for_long(
    limiter: BodyReadLimiter, slow: list[BlockedBody], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_READ_SECONDS", 0.05)

    with pytest.raises(ServiceUnavailable):
        limiter.read(Ready(), 1)


def test_a_body_that_breaks_gives_its_turn_back(limiter: BodyReadLimiter) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError

    for _ in range(2 * MAX_READS):
        with pytest.raises(OSError):  # noqa: PT011
            limiter.read(Broken(), 1)
    assert limiter.read(Ready(), 1) == b"y"


def test_an_application_is_given_the_body_it_would_have_read() -> None:
    seen: list[bytes] = []

    left = [b"ab", b"c"]

    class Stream:
        def read(self, size: int) -> bytes:
            return left.pop(0) if left else b""

    def application(environ: dict[str, Any], _: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read())
        return []

    BodyReadLimiter(application)({"wsgi.input": Stream()}, None)
    assert seen == [b"abc"]


def test_slow_bodies_and_waiting_requests_leave_a_thread() -> None:
    [threads] = re.findall(r"--blocking-threads (\d+)", procfile()["web"])

    assert int(threads) > MAX_READS + MAX_WAITING


def test_a_wait_is_shorter_than_the_patience() -> None:
    assert MAX_SILENCE_SECONDS > MAX_WAIT_SECONDS + 10


# Connections ---------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of connections")


@on_linux
def test_a_connection_that_got_no_answer_for_long_is_cut_and_no_other() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        old, _ = pair(stack, server)
        assert close_silent(3600) == 0
        kit.eventually(lambda: idle_connections._silent_seconds(old) > 1)
        answered, ours = pair(stack, server)

        assert close_silent(1) == 1

        assert old.recv(1) == b""
        ours.sendall(b"y")
        assert answered.recv(1) == b"y"


@on_linux
def test_our_own_connections_to_others_are_left_alone() -> None:
    with ExitStack() as stack:
        elsewhere = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours, theirs = pair(stack, elsewhere)
        elsewhere.close()  # as if it listened in another process
        kit.eventually(lambda: idle_connections._silent_seconds(ours) > 0.05)

        assert close_silent(0.05) == 0

        theirs.sendall(b"y")
        assert ours.recv(1) == b"y"


def pair(stack: ExitStack, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection."""
    outer = stack.enter_context(socket.create_connection(server.getsockname()))
    return outer, stack.enter_context(server.accept()[0])
