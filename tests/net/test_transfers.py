"""Many calls at once in one thread, on real sockets."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import cast

import pytest

from orchestrator.net.http_types import Reply
from orchestrator.net.transfer import Request, Transfer
from orchestrator.net.transfers import Transfers
from orchestrator.step_loop import StepLoop
from tests.support.steps import begin

#: Calls that are open at once.
CALLS = 300
#: The longest wait for an answer. Seconds.
LIMIT = 60
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request on `/held` only when CALLS of them are open, and others at once."""

    def __init__(self) -> None:
        self._accepted: list[socket.socket] = []
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CALLS)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def connections(self) -> int:
        return len(self._accepted)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        for each in (self._listener, self._stopped, *self._accepted):
            each.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._stopped, selectors.EVENT_READ)
            ready.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._stopped:
                        return
                    if key.fileobj is self._listener:
                        self._accepted.append(self._listener.accept()[0])
                        ready.register(self._accepted[-1], selectors.EVENT_READ)
                    elif not self._answer(cast(socket.socket, key.fileobj)):
                        ready.unregister(key.fileobj)

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request of a connection. Return whether the client keeps it open."""
        head = b""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
                head += received
        if head.startswith(b"GET /held"):
            self._held.append(connection)
        elif head:
            connection.sendall(ANSWER)
        if len(self._held) == CALLS:
            for waiting in self._held:
                waiting.sendall(ANSWER)
            self._held.clear()
        return bool(head)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_hundreds_of_calls_are_open_at_once_and_delay_no_other(
    server: Server, steps: StepLoop
) -> None:
    transfers = Transfers(connect_timeout=LIMIT, seconds=LIMIT, connections=CALLS)

    def get(path: str) -> Future[Transfer]:
        return begin(steps, transfers.exchange, Request("GET", server.url + path, {}), 1000)

    held = [get("/held") for _ in range(CALLS - 1)]
    others = [get("/") for _ in range(20)]
    assert {each.result(LIMIT).status for each in others} == {200}
    assert not any(each.done() for each in held)

    held.append(get("/held"))

    assert {each.result(LIMIT).status for each in held} == {200}
    used = server.connections
    assert get("/").result(LIMIT).status == 200
    assert server.connections == used  # idle connections are used again


def test_a_call_that_was_held_up_beyond_its_limit_sends_nothing(
    server: Server, steps: StepLoop
) -> None:
    transfers = Transfers(connect_timeout=0.2, seconds=0.2, connections=1)
    request = Request("POST", server.url, {}, b"{}")
    both_wait = threading.Event()

    begin(steps, both_wait.wait, LIMIT)
    call = begin(steps, transfers.exchange, request, 1000)
    begin(steps, time.sleep, 0.5)  # the thread does nothing else
    both_wait.set()
    transfer = call.result(LIMIT)

    assert (transfer.status, transfer.sent, transfer.timed_out) == (0, False, True)


def test_no_repr_shows_a_key_or_a_prompt(server: Server) -> None:
    request = Request("POST", server.url, {"Authorization": "Bearer key"}, b"a prompt")
    transfer = Transfers(connect_timeout=LIMIT, seconds=LIMIT, connections=1).exchange(request, 9)
    transfer.headers["x-echo"] = "Bearer key"
    transfer.body += b"a prompt"
    reply = Reply(200, transfer.headers, bytes(transfer.body))

    for shown in (repr(request), repr(transfer), repr(reply)):
        assert "key" not in shown
        assert "prompt" not in shown


def test_no_more_idle_connections_are_kept_than_allowed(steps: StepLoop) -> None:
    servers = [Server() for _ in range(3)]
    transfers = Transfers(connect_timeout=LIMIT, seconds=LIMIT, connections=2)

    def get(server: Server) -> int:
        """Call a server at a given address. Return the connections that it has had."""
        request = Request("GET", server.url, {}, addresses=("127.0.0.1",))
        assert begin(steps, transfers.exchange, request, 1000).result(LIMIT).status == 200
        return server.connections

    assert [get(server) for server in [*servers, servers[2], servers[0]]] == [1, 1, 1, 1, 2]
    for server in servers:
        server.close()


def test_each_call_has_its_own_deadline(server: Server, steps: StepLoop) -> None:
    transfers = Transfers(connect_timeout=LIMIT, seconds=LIMIT, connections=2)

    def get(path: str, seconds: float) -> Future[Transfer]:
        request = Request("GET", server.url + path, {}, ends_at=time.monotonic() + seconds)
        return begin(steps, transfers.exchange, request, 1000)

    slow, slower = get("/held", 0.3), get("/held", 60 * LIMIT)

    assert slow.result(LIMIT).timed_out
    assert get("/", LIMIT).result(LIMIT).status == 200
    assert not slower.done()
