"""A Redis that takes calls and never answers: one call at a time waits for it, the others fail."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import fakeredis
import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.cli.stack import embedded_redis
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger import connection as module
from orchestrator.ledger.connection import PAUSE_SECONDS, Clients, TimeoutGate
from tests.ledger import kit
from tests.support.fakes import Clock

ANSWER = 0.2


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", ANSWER)


@pytest.fixture
def silent(short: None) -> Iterator[Ledger]:
    """A ledger whose server accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield Ledger.from_url(f"redis://127.0.0.1:{server.getsockname()[1]}/0")


def spent(ledger: Ledger) -> float:
    """How long a call took to fail. Seconds."""
    begun = monotonic()
    with pytest.raises(LedgerUnavailable):
        ledger.last_sweep()
    return monotonic() - begun


def test_many_calls_at_once_cost_one_time_out_and_not_one_each(silent: Ledger) -> None:
    begun = monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: spent(silent), range(64)))

    assert monotonic() - begun < 7 * ANSWER  # without the breaker 8, since 8 threads make 64 calls


def test_a_time_out_is_not_waited_for_twice(short: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        least = min(spent(Ledger.from_url(url)) for _ in range(4))  # a busy machine may add to some
    assert ANSWER <= least < 2 * ANSWER


def test_after_a_time_out_the_next_call_fails_at_once(silent: Ledger) -> None:
    spent(silent)

    assert spent(silent) < ANSWER / 2


def test_it_heals_by_itself_and_no_late_answer_is_taken_for_another_calls(
    tmp_path: Path, short: None
) -> None:
    with embedded_redis(tmp_path) as url:
        ledger = Ledger.from_url(url)
        ledger.mark_sweep(now=7, host="here")
        pid = int(ledger.server()["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable):
                ledger.installed_shards()
        finally:
            os.kill(pid, signal.SIGCONT)

        kit.eventually(lambda: answers(ledger), within=5)
        assert ledger.last_sweep() == 7


def answers(ledger: Ledger) -> bool:
    try:
        ledger.server()
    except LedgerUnavailable:
        return False
    return True


def test_a_wait_that_is_the_one_to_try_is_not_hindered_by_itself(
    real_redis: Redis, redis_url: str
) -> None:
    ledger = Ledger.from_url(redis_url)
    job_id = kit.running(ledger)
    breaker = ledger._redis.__self__._gate  # type: ignore[attr-defined]
    breaker._clock = lambda: monotonic() - 2 * PAUSE_SECONDS
    breaker.timed_out()
    breaker._clock = monotonic

    found = ledger.wait(job_id, 0.01)

    assert found is not None
    assert found.status == "running"


def test_a_call_within_a_call_that_is_not_answered_counts() -> None:
    clients = Clients(fakeredis.FakeRedis)
    with pytest.raises(LedgerUnavailable), clients.client(), clients.client():
        raise RedisTimeoutError

    with pytest.raises(LedgerUnavailable, match="the last call timed out"), clients.client():
        pass


# The breaker alone ----------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def tripped(clock: Clock) -> TimeoutGate:
    breaker = TimeoutGate(lambda: clock() / 1000)
    breaker.enter()
    breaker.timed_out()
    return breaker


def elsewhere(breaker: TimeoutGate) -> bool:
    """Whether a call of another thread may try."""
    allowed = []

    def call() -> None:
        try:
            breaker.enter()
            allowed.append(True)
        except LedgerUnavailable:
            allowed.append(False)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return allowed[0]


def test_while_all_is_well_every_call_goes_through() -> None:
    breaker = TimeoutGate()
    for _ in range(3):
        breaker.enter()
        assert elsewhere(breaker)
        breaker.answered()


def test_a_call_fails_until_the_pause_is_over(tripped: TimeoutGate, clock: Clock) -> None:
    assert not elsewhere(tripped)
    clock.forward(PAUSE_SECONDS - 0.001)
    assert not elsewhere(tripped)
    clock.forward(0.001)
    assert elsewhere(tripped)


def test_then_one_call_tries_and_the_others_fail(tripped: TimeoutGate, clock: Clock) -> None:
    clock.forward(PAUSE_SECONDS)
    tripped.enter()

    assert not elsewhere(tripped)
    tripped.enter()  # the same thread, within its call


def test_an_answer_lets_every_call_through(tripped: TimeoutGate, clock: Clock) -> None:
    clock.forward(PAUSE_SECONDS)
    tripped.enter()
    tripped.answered()

    assert elsewhere(tripped)
    assert elsewhere(tripped)


def test_another_time_out_is_another_pause(tripped: TimeoutGate, clock: Clock) -> None:
    clock.forward(PAUSE_SECONDS)
    tripped.enter()
    tripped.timed_out()

    assert not elsewhere(tripped)
    clock.forward(PAUSE_SECONDS)
    assert elsewhere(tripped)


def test_who_tries_and_is_never_heard_of_again_does_not_keep_the_others_out(
    tripped: TimeoutGate, clock: Clock
) -> None:
    clock.forward(PAUSE_SECONDS)
    assert elsewhere(tripped)

    clock.forward(module.CONNECT_TIMEOUT + module.ANSWER_TIMEOUT)
    assert elsewhere(tripped)
