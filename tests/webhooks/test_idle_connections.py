"""Connections on which nothing is sent for long."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack

import pytest

from orchestrator.api.incoming import MAX_WAIT_SECONDS
from tests.ledger import kit
from webhooks import idle_connections
from webhooks.idle_connections import MAX_SILENCE_SECONDS, close_silent
from webhooks.request_bodies import MAX_BODY_SECONDS

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of connections")


def test_a_wait_and_a_slow_body_are_answered_before_their_connection_is_cut() -> None:
    assert max(MAX_WAIT_SECONDS, MAX_BODY_SECONDS) + 10 < MAX_SILENCE_SECONDS


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
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_whose_answer_is_held_is_left_alone(address: str) -> None:
    """The front knows it by the client's address, as granian writes it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server((address, 0), family=family))
        except OSError:
            pytest.skip("there is no IPv6")
        waiting, ours = pair(stack, server)
        host = f"[{address}]" if ":" in address else address
        client = f"{host}:{waiting.getsockname()[1]}"
        kit.eventually(lambda: idle_connections._silent_seconds(ours) > 0.05)

        assert close_silent(0.05, lambda each: each == client) == 0

        ours.sendall(b"y")
        assert waiting.recv(1) == b"y"


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


def test_a_check_that_fails_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have no file left to list its files with."""
    checks: list[str] = []

    class End(BaseException):
        """Ends the thread of the test."""

    def check(*_: object) -> int:
        checks.append("checked")
        if len(checks) > 1:
            raise End
        raise OSError("Too many open files")

    monkeypatch.setattr(idle_connections, "close_silent", check)
    monkeypatch.setattr(idle_connections, "CHECK_INTERVAL_SECONDS", 0.001)

    with pytest.raises(End):
        idle_connections._close_for_ever(lambda _: False)

    assert len(checks) == 2


def pair(stack: ExitStack, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection."""
    outer = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
    return outer, stack.enter_context(server.accept()[0])
