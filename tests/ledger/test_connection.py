"""A Redis that accepts calls and does not answer: one call at a time waits, and the others fail."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic

import fakeredis
import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.jobs.model import Status
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger import connection as module
from orchestrator.ledger.connection import PAUSE_SECONDS, Clients, TimeoutGate, connect
from orchestrator.servers.redis_server import RedisServer
from tests.ledger import kit
from tests.support.fakes import Clock

pytestmark = pytest.mark.one_server


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.2)


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause after a time-out is longer than a test."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 3600.0)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and does not answer."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as server:
        server.setblocking(False)
        yield server


def ledger_on(server: socket.socket) -> Ledger:
    return Ledger.from_url(f"redis://127.0.0.1:{server.getsockname()[1]}/0")


def connections(server: socket.socket) -> int:
    """Return the number of new connections to a server."""
    number = 0
    while True:
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return number
        connection.close()
        number += 1


@pytest.mark.usefixtures("short_timeout", "long_pause")
def test_of_many_calls_only_those_at_the_start_wait_for_the_timeout(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, timeouts = ledger_on(silent), []
    timed_out = TimeoutGate.timed_out

    def record(gate: TimeoutGate) -> None:
        timeouts.append(gate)
        timed_out(gate)

    monkeypatch.setattr(TimeoutGate, "timed_out", record)

    def call(_: int) -> None:
        with pytest.raises(LedgerUnavailable):
            ledger.installation.last_sweep()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(64)))

    assert 1 <= len(timeouts) <= 8, "each of the 8 threads waits once at most"


@pytest.mark.usefixtures("short_timeout", "long_pause")
def test_a_call_that_timed_out_is_not_repeated(silent: socket.socket) -> None:
    with pytest.raises(LedgerUnavailable):
        ledger_on(silent).installation.last_sweep()

    assert connections(silent) == 1


@pytest.mark.usefixtures("short_timeout", "long_pause")
def test_the_next_call_after_a_timeout_does_not_reach_redis(silent: socket.socket) -> None:
    ledger = ledger_on(silent)
    with pytest.raises(LedgerUnavailable):
        ledger.installation.last_sweep()
    assert connections(silent) == 1

    with pytest.raises(LedgerUnavailable, match="the last call timed out"):
        ledger.installation.last_sweep()

    assert connections(silent) == 0


@pytest.mark.usefixtures("short_timeout", "long_pause")
def test_the_next_call_waits_for_no_node_of_a_cluster_that_does_not_answer(
    silent: socket.socket,
) -> None:
    url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
    ledger = Ledger.from_url(url, is_cluster=True)
    with pytest.raises(LedgerUnavailable):
        ledger.installation.last_sweep()

    with pytest.raises(LedgerUnavailable, match="the last call timed out"):
        ledger.installation.last_sweep()


@pytest.mark.usefixtures("short_timeout")
def test_a_ledger_recovers_and_does_not_read_a_late_answer_of_another_call(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url:
        ledger = Ledger.from_url(url)
        ledger.installation.mark_sweep(now=7, host="here")
        pid = int(ledger.installation.server()["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable):
                ledger.installation.join()
        finally:
            os.kill(pid, signal.SIGCONT)

        kit.eventually(lambda: answers(ledger))
        assert ledger.installation.last_sweep() == 7


def answers(ledger: Ledger) -> bool:
    try:
        ledger.installation.server()
    except LedgerUnavailable:
        return False
    return True


def test_the_one_call_that_may_try_is_not_blocked_by_its_inner_calls(
    real_redis: Redis, redis_url: str
) -> None:
    ledger = Ledger.from_url(redis_url)
    job_id = kit.running(ledger)
    gate = ledger._redis.__self__._gate  # type: ignore[attr-defined]
    gate._clock = lambda: monotonic() - 2 * PAUSE_SECONDS
    gate.timed_out()
    gate._clock = monotonic

    job = ledger.outcomes.wait(job_id, 0.01)

    assert job is not None
    assert job.status is Status.RUNNING


def test_a_timeout_of_an_inner_call_counts() -> None:
    clients = Clients(fakeredis.FakeRedis)
    with pytest.raises(LedgerUnavailable), clients.client(), clients.client():
        raise RedisTimeoutError

    with pytest.raises(LedgerUnavailable, match="the last call timed out"), clients.client():
        pass


def test_a_connection_that_cannot_be_opened_does_not_close_the_others(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url:
        server = RedisServer.parse(url)
        clients = Clients(lambda: connect(server))
        with clients.client() as client:
            client.config_set("maxclients", 1)

            with pytest.raises(RedisError, match="max number of clients"):
                clients.open_connection()

            assert client.ping()
            client.config_set("maxclients", 100)  # so the server can be told to stop
        assert clients.generation == 0


# TimeoutGate ----------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def closed_gate(clock: Clock) -> TimeoutGate:
    """A gate just after a time-out."""
    gate = TimeoutGate(lambda: clock() / 1000)
    gate.enter()
    gate.timed_out()
    return gate


def other_thread_may_enter(gate: TimeoutGate) -> bool:
    """Return True if a call of another thread may try."""
    allowed = []

    def call() -> None:
        try:
            gate.enter()
            allowed.append(True)
        except LedgerUnavailable:
            allowed.append(False)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return allowed[0]


def test_every_call_may_enter_while_redis_answers() -> None:
    gate = TimeoutGate()
    for _ in range(3):
        gate.enter()
        assert other_thread_may_enter(gate)
        gate.answered()


def test_calls_fail_until_the_end_of_the_pause(closed_gate: TimeoutGate, clock: Clock) -> None:
    assert not other_thread_may_enter(closed_gate)
    clock.forward(PAUSE_SECONDS - 0.001)
    assert not other_thread_may_enter(closed_gate)
    clock.forward(0.001)
    assert other_thread_may_enter(closed_gate)


def test_after_the_pause_one_thread_tries_and_the_others_fail(
    closed_gate: TimeoutGate, clock: Clock
) -> None:
    clock.forward(PAUSE_SECONDS)
    closed_gate.enter()

    assert not other_thread_may_enter(closed_gate)
    closed_gate.enter()  # an inner call of the same thread


def test_an_answer_opens_the_gate_for_every_call(closed_gate: TimeoutGate, clock: Clock) -> None:
    clock.forward(PAUSE_SECONDS)
    closed_gate.enter()
    closed_gate.answered()

    assert other_thread_may_enter(closed_gate)
    assert other_thread_may_enter(closed_gate)


def test_another_timeout_starts_another_pause(closed_gate: TimeoutGate, clock: Clock) -> None:
    clock.forward(PAUSE_SECONDS)
    closed_gate.enter()
    closed_gate.timed_out()

    assert not other_thread_may_enter(closed_gate)
    clock.forward(PAUSE_SECONDS)
    assert other_thread_may_enter(closed_gate)


def test_a_thread_that_never_returns_does_not_block_the_others(
    closed_gate: TimeoutGate, clock: Clock
) -> None:
    clock.forward(PAUSE_SECONDS)
    assert other_thread_may_enter(closed_gate)

    clock.forward(module.CONNECT_TIMEOUT + module.ANSWER_TIMEOUT)
    assert other_thread_may_enter(closed_gate)


def test_a_refusal_lets_the_other_threads_connect_anew(redis_url: str) -> None:
    made: list[Redis] = []
    clients = Clients(lambda: made.append(connect(RedisServer.parse(redis_url))) or made[-1])  # type: ignore[func-returns-value]

    def refuse() -> None:
        with clients.client():
            raise ReadOnlyError("READONLY You can't write against a read only replica.")

    with clients.client() as client:
        first: object = client.client_id()
    with ThreadPoolExecutor(1) as pool, pytest.raises(LedgerUnavailable):
        pool.submit(refuse).result(60)
    with clients.client() as client:
        assert client.client_id() != first
    for each in made:
        each.close()
